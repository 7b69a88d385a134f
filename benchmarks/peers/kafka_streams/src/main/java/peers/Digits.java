package peers;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.OrtSession.SessionOptions;
import ai.onnxruntime.OrtSession.SessionOptions.ExecutionMode;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.Map;

/** The network on ONNX Runtime. Any number of threads may ask; each runs on its own core. */
final class Digits {
    record Answer(int label, float confidence) {}

    private static final int PIXELS = 28 * 28;
    private static final long[] SHAPE = {1, 1, 28, 28};
    // Of NumPy's format: a magic of 6 bytes, 2 of version, and the length of what follows.
    private static final int NPY_LENGTH_AT = 8;
    private static final int NPY_HEADER_AT = 10;

    private final OrtEnvironment environment = OrtEnvironment.getEnvironment();
    private final OrtSession session;
    private final String input;
    private final ThreadLocal<FloatBuffer> pixels =
            ThreadLocal.withInitial(
                    () ->
                            ByteBuffer.allocateDirect(4 * PIXELS)
                                    .order(ByteOrder.nativeOrder())
                                    .asFloatBuffer());

    Digits(Path model) throws OrtException {
        SessionOptions options = new SessionOptions();
        // Streams' threads are as many as cores: the network shall not start more.
        options.setIntraOpNumThreads(1);
        options.setExecutionMode(ExecutionMode.SEQUENTIAL);
        session = environment.createSession(model.toString(), options);
        input = session.getInputNames().iterator().next();
    }

    /** Classifies an image of 28 x 28 bytes in NumPy's `.npy` format. */
    Answer classify(byte[] npy) {
        int header = (npy[NPY_LENGTH_AT] & 0xff) | (npy[NPY_LENGTH_AT + 1] & 0xff) << 8;
        int first = NPY_HEADER_AT + header;
        if (npy.length - first != PIXELS) {
            throw new IllegalArgumentException("not an image of 28 x 28 bytes");
        }
        FloatBuffer buffer = pixels.get();
        buffer.clear();
        for (int i = 0; i < PIXELS; i++) {
            buffer.put((npy[first + i] & 0xff) / 255f);
        }
        buffer.flip();
        try (OnnxTensor tensor = OnnxTensor.createTensor(environment, buffer, SHAPE);
                OrtSession.Result result = session.run(Map.of(input, tensor))) {
            FloatBuffer scores = ((OnnxTensor) result.get(0)).getFloatBuffer();
            int best = 0;
            for (int i = 1; i < scores.limit(); i++) {
                if (scores.get(i) > scores.get(best)) {
                    best = i;
                }
            }
            return new Answer(best, scores.get(best));
        } catch (OrtException error) {
            throw new IllegalStateException(error);
        }
    }
}
