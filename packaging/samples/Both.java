package cut;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Paths;

/** A program that uses ONNX Runtime itself, before or after libqwenguard. Says which are mapped at the end. */
public final class Both {
    public static void main(String[] arguments) throws Exception {
        boolean oursFirst = arguments[0].equals("ours");
        if (oursFirst) {
            Cut.main(arguments);
        }
        ai.onnxruntime.OrtEnvironment.getEnvironment();
        if (!oursFirst) {
            Cut.main(arguments);
        }
        mapped();
    }

    private static void mapped() throws IOException {
        Files.readAllLines(Paths.get("/proc/self/maps")).stream()
                .filter(line -> line.contains("/libonnxruntime."))
                .map(line -> line.substring(line.indexOf('/')))
                .distinct()
                .forEach(path -> System.out.println("mapped: " + path));
    }

    private Both() {}
}
