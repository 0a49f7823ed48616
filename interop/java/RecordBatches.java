import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.lang.reflect.Proxy;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.ScheduledFuture;
import java.util.function.Supplier;

import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.FileRecords;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.record.internal.SimpleRecord;
import org.apache.kafka.common.requests.ProduceRequest;
import org.apache.kafka.common.requests.ProduceResponse;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.server.common.RequestLocal;
import org.apache.kafka.server.storage.log.FetchIsolation;
import org.apache.kafka.server.util.Scheduler;
import org.apache.kafka.storage.internals.log.AppendOrigin;
import org.apache.kafka.storage.internals.log.LogConfig;
import org.apache.kafka.storage.internals.log.LogDirFailureChannel;
import org.apache.kafka.storage.internals.log.ProducerStateManagerConfig;
import org.apache.kafka.storage.internals.log.RecordValidationException;
import org.apache.kafka.storage.internals.log.UnifiedLog;
import org.apache.kafka.storage.internals.log.VerificationGuard;
import org.apache.kafka.storage.log.metrics.BrokerTopicStats;

/**
 * `check`: appends what `cargo xtask interop batches` sends to a real log and compares verdict and stored bytes
 * with Milena's. `make FILE`: writes batches made by Kafka, and what is in them. Every difference is a line; the
 * exit status is 1 if there was one.
 */
public final class RecordBatches {
    private static final int REPORTED_MAX = 40;
    private static final int LEADER_EPOCH = 7;

    private final Map<String, Long> counts = new TreeMap<>();
    private int differences = 0;
    private long now = 0;
    private UnifiedLog log = null;
    private File dir = null;

    public static void main(String[] args) throws Exception {
        if (args[0].equals("make")) {
            try (DataOutputStream out = new DataOutputStream(new BufferedOutputStream(new FileOutputStream(args[1])))) {
                make(out);
            }
            return;
        }
        RecordBatches batches = new RecordBatches();
        batches.check(new DataInputStream(new BufferedInputStream(System.in, 1 << 20)));
        System.out.println("java: " + batches.counts);
        System.exit(batches.differences == 0 ? 0 : 1);
    }

    // ---- check

    private void check(DataInputStream in) throws Exception {
        for (int item = in.readByte(); item != 0; item = in.readByte()) {
            if (item == 1)
                open(in);
            else
                compare(in);
        }
        close();
    }

    private void open(DataInputStream in) throws Exception {
        close();
        Map<String, Object> props = new HashMap<>();
        String codec = text(in);
        int level = in.readInt();
        props.put("compression.type", codec);
        if (List.of("gzip", "lz4", "zstd").contains(codec))
            props.put("compression." + codec + ".level", level);
        props.put("cleanup.policy", in.readBoolean() ? "compact" : "delete");
        props.put("message.timestamp.type", in.readBoolean() ? "LogAppendTime" : "CreateTime");
        props.put("message.timestamp.before.max.ms", in.readLong());
        props.put("message.timestamp.after.max.ms", in.readLong());
        props.put("max.message.bytes", in.readInt());
        props.put("max.decompressed.message.bytes", in.readInt());
        now = in.readLong();
        dir = Files.createTempDirectory("records-interop").resolve("t-0").toFile();
        Files.createDirectory(dir.toPath());
        log = UnifiedLog.create(dir, new LogConfig(props), 0, 0, new Immediately(), new BrokerTopicStats(), new Clock(),
            3600000, new ProducerStateManagerConfig(86400000, false), 600000, new LogDirFailureChannel(1), true,
            Optional.empty());
    }

    private void close() throws IOException {
        if (log == null)
            return;
        log.delete();
        Files.deleteIfExists(dir.toPath());
        Files.deleteIfExists(dir.getParentFile().toPath());
        log = null;
    }

    private void compare(DataInputStream in) throws Exception {
        long seed = in.readLong();
        short version = in.readShort();
        byte[] sent = bytes(in);
        short ourCode = in.readShort();
        List<Integer> ourIndexes = new ArrayList<>();
        for (int left = in.readInt(); left > 0; left--)
            ourIndexes.add(in.readInt());
        byte[] ours = bytes(in);
        List<Integer> indexes = new ArrayList<>();
        Throwable thrown = append(version, sent, indexes);
        Errors code = thrown == null ? Errors.NONE : Errors.forException(thrown);
        String what = "case " + seed + " " + (sent.length > 22 ? CompressionType.values()[(sent[22] & 7) % 5] : "?") + " " + thrown;
        if (isProducerState(code)) {
            count("left to producer state");
        } else if (ourCode == Errors.INVALID_RECORD.code() && ourIndexes.isEmpty() && !(code == Errors.INVALID_RECORD && indexes.isEmpty())
            && isAccident(code, sent)) {
            count("invalid by Milena, an accident in Kafka: " + code);
        } else if (code.code() != ourCode) {
            differ(what + ": Kafka says " + code + ", Milena " + Errors.forCode(ourCode));
        } else if (!indexes.equals(ourIndexes)) {
            differ(what + ": Kafka blames " + indexes + ", Milena " + ourIndexes);
        } else if (thrown == null) {
            compareStored(what, ours);
        }
        count(code.name());
        if (thrown == null)
            log.truncateFullyAndStartAt(0, Optional.empty());
    }

    private Throwable append(short version, byte[] sent, List<Integer> indexes) {
        try {
            MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(sent.clone()));
            ProduceRequest.validateRecords(version, records);
            log.appendAsLeader(records, LEADER_EPOCH, AppendOrigin.CLIENT, RequestLocal.noCaching(),
                VerificationGuard.SENTINEL, (short) 0);
            return null;
        } catch (RecordValidationException e) {
            for (ProduceResponse.RecordError error : e.recordErrors())
                indexes.add(error.batchIndex);
            return e.invalidException();
        } catch (Throwable t) {
            return t;
        }
    }

    /**
     * Kafka fell over the batch instead of refusing it, or took one whose records it cannot itself read or that have
     * offsets of their own.
     */
    private static boolean isAccident(Errors code, byte[] sent) {
        if (code == Errors.UNKNOWN_SERVER_ERROR)
            return true;
        try {
            boolean gzipHead = only(sent).compressionType() == CompressionType.GZIP; // Java looks at little of it
            return gzipHead || !countsUp(list(only(sent)));
        } catch (RuntimeException e) {
            return true;
        }
    }

    private static boolean isProducerState(Errors code) {
        switch (code) {
            case OUT_OF_ORDER_SEQUENCE_NUMBER:
            case DUPLICATE_SEQUENCE_NUMBER:
            case INVALID_PRODUCER_EPOCH:
            case INVALID_TXN_STATE:
            case PRODUCER_FENCED:
                return true;
            default:
                return false;
        }
    }

    private void compareStored(String what, byte[] ours) throws IOException {
        FileRecords file = (FileRecords) log.read(0, 1 << 26, FetchIsolation.LOG_END, true).records;
        ByteBuffer read = ByteBuffer.allocate(file.sizeInBytes());
        file.readInto(read, 0);
        byte[] theirs = Arrays.copyOf(read.array(), read.limit());
        if (Arrays.equals(ours, theirs)) {
            count("stored alike");
            return;
        }
        RecordBatch mine = only(ours);
        RecordBatch his = only(theirs);
        List<Record> hisRecords = list(his);
        if (mine.compressionType() == CompressionType.NONE)
            differ(what + ": stored bytes differ\n  " + hex(theirs) + "\n  " + hex(ours));
        byte[] head = Arrays.copyOfRange(ours, 21, 61);
        byte[] hisHead = Arrays.copyOfRange(theirs, 21, 61);
        if (!Arrays.equals(head, hisHead))
            differ(what + ": headers differ\n  " + hex(hisHead) + "\n  " + hex(head));
        else if (!mine.isValid() || !same(list(mine), hisRecords))
            differ(what + ": records differ");
        else
            count("stored alike but for compression");
    }

    /** All but the sizes, as Kafka writes names of headers that are not UTF-8 with replacement characters. */
    private static boolean same(List<Record> mine, List<Record> his) {
        boolean same = mine.size() == his.size();
        for (int i = 0; same && i < mine.size(); i++) {
            Record a = mine.get(i);
            Record b = his.get(i);
            same = a.offset() == b.offset() && a.timestamp() == b.timestamp() && a.sequence() == b.sequence()
                && Objects.equals(a.key(), b.key()) && Objects.equals(a.value(), b.value())
                && Arrays.equals(a.headers(), b.headers());
        }
        return same;
    }

    private static boolean countsUp(List<Record> records) {
        for (int i = 0; i < records.size(); i++)
            if (records.get(i).offset() != i)
                return false;
        return true;
    }

    private static RecordBatch only(byte[] bytes) {
        return MemoryRecords.readableRecords(ByteBuffer.wrap(bytes)).batches().iterator().next();
    }

    private static List<Record> list(RecordBatch batch) {
        List<Record> records = new ArrayList<>();
        Iterator<Record> iterator = batch.iterator();
        iterator.forEachRemaining(records::add);
        return records;
    }

    private void differ(String line) {
        if (differences++ < REPORTED_MAX)
            System.out.println(line);
    }

    private void count(String what) {
        counts.merge(what, 1L, Long::sum);
    }

    private final class Clock implements Time {
        @Override public long milliseconds() {
            return now;
        }
        @Override public long nanoseconds() {
            return now * 1000000;
        }
        @Override public void sleep(long ms) { }
        @Override public void waitObject(Object object, Supplier<Boolean> condition, long deadline) { }
    }

    private static final class Immediately implements Scheduler {
        @Override public void startup() { }
        @Override public void shutdown() { }
        @Override public void resizeThreadPool(int size) { }
        @Override public ScheduledFuture<?> schedule(String name, Runnable task, long delay, long period) {
            if (period <= 0)
                task.run();
            return (ScheduledFuture<?>) Proxy.newProxyInstance(RecordBatches.class.getClassLoader(),
                new Class<?>[] {ScheduledFuture.class}, (proxy, method, args) -> method.getName().equals("cancel") ? true : null);
        }
    }

    // ---- make

    private static final int MADE = 400;

    private static void make(DataOutputStream out) throws IOException {
        Random random = new Random(44);
        for (int i = 0; i < MADE; i++)
            makeOne(out, random, CompressionType.values()[i % CompressionType.values().length]);
        out.writeByte(0);
    }

    private static void makeOne(DataOutputStream out, Random random, CompressionType type) throws IOException {
        boolean appendTime = random.nextInt(4) == 0;
        boolean producer = random.nextBoolean();
        long base = random.nextInt(1000);
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 16), RecordBatch.CURRENT_MAGIC_VALUE,
            compression(type, random), appendTime ? TimestampType.LOG_APPEND_TIME : TimestampType.CREATE_TIME, base,
            1700000000000L, producer ? random.nextInt(100000) : -1, producer ? (short) random.nextInt(100) : -1,
            producer ? random.nextInt() & Integer.MAX_VALUE : -1, producer && random.nextBoolean(), false, random.nextInt(9));
        int count = 1 + random.nextInt(random.nextInt(10) == 0 ? 2000 : 30);
        for (int i = 0; i < count; i++)
            builder.append(record(random));
        MemoryRecords records = builder.build();
        byte[] bytes = new byte[records.sizeInBytes()];
        records.buffer().duplicate().get(bytes);
        out.writeByte(1);
        bytes(out, bytes);
        RecordBatch batch = records.batches().iterator().next();
        out.writeInt(batch.lastSequence());
        out.writeInt(count);
        for (Record record : batch) {
            out.writeLong(record.offset());
            out.writeLong(record.timestamp());
            out.writeInt(record.sequence());
            bytes(out, array(record.key()));
            bytes(out, array(record.value()));
            out.writeInt(record.headers().length);
            for (Header header : record.headers()) {
                bytes(out, header.key().getBytes(StandardCharsets.UTF_8));
                bytes(out, header.value());
            }
        }
    }

    private static Compression compression(CompressionType type, Random random) {
        switch (type) {
            case GZIP: return Compression.gzip().level(1 + random.nextInt(9)).build();
            case LZ4: return Compression.lz4().level(1 + random.nextInt(17)).build();
            case ZSTD: return Compression.zstd().level(random.nextInt(27) - 5).build();
            default: return Compression.of(type).build();
        }
    }

    private static SimpleRecord record(Random random) {
        Header[] headers = new Header[random.nextInt(3)];
        for (int i = 0; i < headers.length; i++)
            headers[i] = new RecordHeader("h\u00e9" + i, random.nextBoolean() ? null : some(random, 20));
        byte[] key = random.nextInt(3) == 0 ? null : some(random, 20);
        byte[] value = random.nextInt(10) == 0 ? null : some(random, random.nextInt(50) == 0 ? 100000 : 300);
        return new SimpleRecord(1700000000000L - random.nextInt(100000), key, value, headers);
    }

    /** Half of it compresses. */
    private static byte[] some(Random random, int max) {
        byte[] bytes = new byte[random.nextInt(max)];
        random.nextBytes(bytes);
        Arrays.fill(bytes, 0, bytes.length / 2, (byte) 'm');
        return bytes;
    }

    // ---- the streams

    private static byte[] array(ByteBuffer buffer) {
        if (buffer == null)
            return null;
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    private static String text(DataInputStream in) throws IOException {
        return new String(bytes(in), StandardCharsets.UTF_8);
    }

    private static byte[] bytes(DataInputStream in) throws IOException {
        int length = in.readInt();
        return length < 0 ? null : in.readNBytes(length);
    }

    private static void bytes(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes == null ? -1 : bytes.length);
        if (bytes != null)
            out.write(bytes);
    }

    private static String hex(byte[] bytes) {
        StringBuilder text = new StringBuilder();
        for (byte b : bytes)
            text.append(String.format("%02x", b));
        return text.toString();
    }
}
