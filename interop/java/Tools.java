import java.io.*;
import java.lang.reflect.Field;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Apache Kafka's command line tools one after the other in this process, as each would run in its own.
 * Standard input: an invocation is the milliseconds it may take, the main class, its arguments and what it reads from
 * its standard input. Standard output: its exit status, standard output and standard error. Integers are int32;
 * text is UTF-8 behind its length.
 */
public final class Tools {
    /** Status of a tool that did not end in time; this process ends after telling it. */
    static final int LATE = 124;

    /** Ends a tool where it asks for the end of the process. No Exception: tools catch those. */
    static final class Ended extends Error {
        Ended() { super("the tool exits", null, false, false); }
    }

    static volatile ByteArrayOutputStream said = new ByteArrayOutputStream();
    static volatile ByteArrayOutputStream complained = new ByteArrayOutputStream();
    static volatile InputStream typed = InputStream.nullInputStream();
    static final List<Runnable> hooks = new ArrayList<>();
    /** The status of the first exit. A tool that catches it says more and exits again: neither counts. */
    static volatile Integer exit;

    public static void main(String[] arguments) throws Exception {
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in));
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out));
        takeOver();
        while (true) {
            int limit;
            try { limit = in.readInt(); } catch (EOFException end) { break; }
            String name = new String(bytes(in), "UTF-8");
            String[] words = new String[in.readInt()];
            for (int i = 0; i < words.length; i++) words[i] = new String(bytes(in), "UTF-8");
            typed = new ByteArrayInputStream(bytes(in));
            int status = run(name, words, limit);
            out.writeInt(status);
            send(out, said);
            send(out, complained);
            out.flush();
            if (status == LATE) break;
        }
        Runtime.getRuntime().halt(0);
    }

    static byte[] bytes(DataInputStream in) throws IOException {
        byte[] bytes = new byte[in.readInt()];
        in.readFully(bytes);
        return bytes;
    }

    static void send(DataOutputStream out, ByteArrayOutputStream text) throws IOException {
        byte[] bytes = text.toByteArray();
        out.writeInt(bytes.length);
        out.write(bytes);
    }

    /** Streams that stay the same while what is behind them changes: some tools keep them in a static field. */
    static void takeOver() {
        System.setIn(new InputStream() {
            @Override public int read() throws IOException { return typed.read(); }
            @Override public int read(byte[] b, int at, int n) throws IOException { return typed.read(b, at, n); }
            @Override public int available() throws IOException { return typed.available(); }
        });
        System.setOut(new PrintStream(new OutputStream() {
            @Override public void write(int b) { if (exit == null) said.write(b); }
            @Override public void write(byte[] b, int at, int n) { if (exit == null) said.write(b, at, n); }
        }, true));
        System.setErr(new PrintStream(new OutputStream() {
            @Override public void write(int b) { if (exit == null) complained.write(b); }
            @Override public void write(byte[] b, int at, int n) { if (exit == null) complained.write(b, at, n); }
        }, true));
        Exit.setExitProcedure((status, message) -> end(status));
        Exit.setHaltProcedure((status, message) -> end(status));
        Exit.setShutdownHookAdder((name, hook) -> { synchronized (hooks) { hooks.add(hook); } });
    }

    static void end(int status) {
        if (exit == null) exit = status;
        throw new Ended();
    }

    static int run(String name, String[] words, int limit) throws Exception {
        said = new ByteArrayOutputStream();
        complained = new ByteArrayOutputStream();
        exit = null;
        int[] status = {0};
        Thread thread = new Thread(() -> status[0] = tool(name, words), name);
        thread.setDaemon(true);
        thread.start();
        thread.join(limit);
        if (!thread.isAlive()) return status[0];
        for (StackTraceElement at : thread.getStackTrace()) System.err.println("    at " + at);
        return LATE;
    }

    static int tool(String name, String[] words) {
        try {
            Class<?> main = Class.forName(name);
            forgetCount(name);
            main.getMethod("main", String[].class).invoke(null, (Object) words);
        } catch (Throwable e) {
            if (exit == null) {
                Throwable thrown = e instanceof java.lang.reflect.InvocationTargetException ? e.getCause() : e;
                System.err.print("Exception in thread \"main\" ");
                thrown.printStackTrace();
                exit = 1;
            }
        }
        int status = exit == null ? 0 : exit;
        // What the tool left for the end of its process.
        List<Runnable> left;
        synchronized (hooks) { left = new ArrayList<>(hooks); hooks.clear(); }
        for (Runnable hook : left) {
            try { hook.run(); } catch (Ended e) { /* ends the same way */ }
        }
        return status;
    }

    /** The console consumer counts its messages in a static field. */
    static void forgetCount(String name) throws Exception {
        for (String holder : new String[] {name, name + "$"}) {
            try {
                Class<?> type = Class.forName(holder);
                Field count = type.getDeclaredField("messageCount");
                count.setAccessible(true);
                Object at = holder.equals(name) ? null : type.getField("MODULE$").get(null);
                count.setInt(at, 0);
            } catch (ClassNotFoundException | NoSuchFieldException none) { /* no such count */ }
        }
    }
}
