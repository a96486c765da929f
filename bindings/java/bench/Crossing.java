import io.github.libqwenguard.Guard;
import io.github.libqwenguard.GuardOptions;
import io.github.libqwenguard.GuardStream;
import io.github.libqwenguard.Message;
import io.github.libqwenguard.Qwenguard;
import java.util.Arrays;
import java.util.Locale;

/** An empty push and a push of one token, through the Java classes: see benches/crossing.py. */
public final class Crossing {
    private static final int CALLS = 10_000;

    public static void main(String[] arguments) {
        GuardOptions options = new GuardOptions().threads(1).cacheMib(64);
        try (Guard guard = Guard.nano(options);
                GuardStream stream = guard.stream()) {
            int token = guard.encode(" bread").get(0).id();
            stream.prompt(Message.user("How do I bake bread?"));
            emptyPushes(stream);
            double[] batches = new double[20];
            for (int batch = 0; batch < batches.length; batch++) {
                batches[batch] = emptyPushes(stream);
            }
            double[] pushes = tokenPushes(stream, token);
            System.out.printf(
                    Locale.ROOT,
                    "{\"language\":\"java-%s\",\"empty_push_ns\":%.1f,\"token_push_us\":%.2f}%n",
                    Qwenguard.provider(),
                    median(batches),
                    median(pushes) / 1e3);
        }
    }

    private static double emptyPushes(GuardStream stream) {
        long begin = System.nanoTime();
        for (int call = 0; call < CALLS; call++) {
            stream.pushText("");
        }
        return (double) (System.nanoTime() - begin) / CALLS;
    }

    private static double[] tokenPushes(GuardStream stream, int token) {
        double[] times = new double[2500];
        for (int push = 0; push < times.length; push++) {
            if (push % 64 == 0) {
                stream.truncate(0);
            }
            long begin = System.nanoTime();
            stream.pushTokens(token);
            times[push] = System.nanoTime() - begin;
        }
        return Arrays.copyOfRange(times, 500, times.length);
    }

    private static double median(double[] values) {
        Arrays.sort(values);
        return (values[(values.length - 1) / 2] + values[values.length / 2]) / 2;
    }

    private Crossing() {}
}
