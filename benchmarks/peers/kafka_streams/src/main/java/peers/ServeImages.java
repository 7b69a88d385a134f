package peers;

import java.nio.file.Path;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;

/**
 * Serves an ONNX model with Kafka Streams: a topic of images in, a topic of results out.
 *
 * <p>Arguments: bootstrap servers, topic of images, topic of results, model, processing guarantee,
 * number of threads, state folder.
 */
public final class ServeImages {
    private ServeImages() {}

    public static void main(String[] arguments) throws Exception {
        String images = arguments[1];
        Digits digits = new Digits(Path.of(arguments[3]));
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(images, Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
                .process(() -> new Classify(digits))
                .to(arguments[2], Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));

        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "streams-" + images);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, arguments[4]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Integer.parseInt(arguments[5]));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[6]);
        // Streams' own default of 100 ms would be most of a single image's latency.
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 5);
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        streams.setUncaughtExceptionHandler(
                error -> StreamThreadExceptionResponse.SHUTDOWN_CLIENT);

        CountDownLatch stopped = new CountDownLatch(1);
        Runtime.getRuntime()
                .addShutdownHook(
                        new Thread(
                                () -> {
                                    streams.close();
                                    stopped.countDown();
                                }));
        streams.start();
        stopped.await();
    }
}
