package peers;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.Locale;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;

/**
 * Answers one image after the other, as Streams hands them out.
 *
 * <p>A batch kept until a punctuation would be committed as done before it is: on a kill its images
 * would be lost. The network gains less than a tenth by batches in float32.
 */
final class Classify implements Processor<byte[], byte[], byte[], byte[]> {
    private final Digits digits;
    private ProcessorContext<byte[], byte[]> context;

    Classify(Digits digits) {
        this.digits = digits;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
    }

    @Override
    public void process(Record<byte[], byte[]> image) {
        Digits.Answer answer = digits.classify(image.value());
        Headers headers = image.headers();
        String body =
                String.format(
                        Locale.ROOT,
                        "{\"id\":\"%s\",\"label\":\"%d\",\"confidence\":%.5f,"
                                + "\"expected_label\":\"%s\",\"published_at\":\"%s\"}",
                        text(headers, "ce_id"),
                        answer.label(),
                        answer.confidence(),
                        text(headers, "ce_expectedlabel"),
                        text(headers, "ce_time"));
        context.forward(image.withValue(body.getBytes(UTF_8)).withHeaders(new RecordHeaders()));
    }

    private static String text(Headers headers, String name) {
        Header header = headers.lastHeader(name);
        return header == null ? "" : new String(header.value(), UTF_8);
    }
}
