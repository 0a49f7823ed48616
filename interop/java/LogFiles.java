import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.lang.reflect.Proxy;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import java.util.Optional;
import java.util.StringJoiner;
import java.util.TreeMap;
import java.util.concurrent.ScheduledFuture;
import java.util.function.Supplier;

import org.apache.kafka.common.errors.ApiException;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.server.common.RequestLocal;
import org.apache.kafka.server.storage.log.FetchIsolation;
import org.apache.kafka.server.util.Scheduler;
import org.apache.kafka.storage.internals.log.AppendOrigin;
import org.apache.kafka.storage.internals.log.Cleaner;
import org.apache.kafka.storage.internals.log.FetchDataInfo;
import org.apache.kafka.storage.internals.log.LogAppendInfo;
import org.apache.kafka.storage.internals.log.LogCleanerManager;
import org.apache.kafka.storage.internals.log.LogConfig;
import org.apache.kafka.storage.internals.log.LogDirFailureChannel;
import org.apache.kafka.storage.internals.log.LogSegment;
import org.apache.kafka.storage.internals.log.LogStartOffsetIncrementReason;
import org.apache.kafka.storage.internals.log.LogToClean;
import org.apache.kafka.storage.internals.log.ProducerStateManagerConfig;
import org.apache.kafka.storage.internals.log.SkimpyOffsetMap;
import org.apache.kafka.storage.internals.log.UnifiedLog;
import org.apache.kafka.storage.internals.log.VerificationGuard;
import org.apache.kafka.storage.internals.utils.Throttler;
import org.apache.kafka.storage.log.metrics.BrokerTopicStats;

/** Kafka's log under the command of `cargo xtask interop logs`: one command a line, one answer a line. */
public final class LogFiles {
    private static final long NOW = 1_000;
    private UnifiedLog log = null;

    public static void main(String[] args) throws Exception {
        LogFiles files = new LogFiles();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String answer;
            try {
                answer = files.answer(line.split(" "));
            } catch (ApiException e) {
                answer = "refused " + Errors.forException(e).name();
            }
            System.out.println(answer);
            System.out.flush();
        }
    }

    private String answer(String[] words) throws Exception {
        switch (words[0]) {
            case "open": return open(words);
            case "append": return append(words);
            case "roll": log.roll(); return "ok";
            case "flush": log.flush(false); return "ok";
            case "truncate": return String.valueOf(truncate(Long.parseLong(words[1])));
            case "start":
                log.updateHighWatermark(log.logEndOffset());
                log.maybeIncrementLogStartOffset(Long.parseLong(words[1]), LogStartOffsetIncrementReason.ClientRecordDeletion);
                return "ok";
            case "lead": log.assignEpochStartOffset(Integer.parseInt(words[1]), log.logEndOffset()); return "ok";
            case "retain":
                log.updateHighWatermark(log.logEndOffset());
                log.deleteOldSegments();
                return "ok";
            case "clean": return clean(Long.parseLong(words[1]), Integer.parseInt(words[2]), Long.parseLong(words[3]));
            case "high": log.updateHighWatermark(log.logEndOffset()); return "ok";
            case "close": log.prepareActiveSegmentForClose(); log.flush(true); log.close(); return "ok";
            case "abandon": log = null; return "ok";
            case "describe": return describe();
            case "read": return read(Long.parseLong(words[1]), Integer.parseInt(words[2]));
            case "time": return time(Long.parseLong(words[1]));
            case "aborted": return aborted(Long.parseLong(words[1]), Integer.parseInt(words[2]));
            case "end":
                return log.endOffsetForEpoch(Integer.parseInt(words[1])).map(e -> e.epoch() + " " + e.offset()).orElse("none");
            default: throw new IllegalArgumentException(words[0]);
        }
    }

    private String open(String[] words) throws Exception {
        Map<String, Object> props = new HashMap<>();
        props.put("internal.segment.bytes", words[5]);
        props.put("index.interval.bytes", words[6]);
        props.put("retention.bytes", words[7]);
        props.put("retention.ms", "-1");
        props.put("cleanup.policy", words[8]);
        props.put("delete.retention.ms", "500");
        props.put("message.timestamp.after.max.ms", String.valueOf(Long.MAX_VALUE));
        File dir = new File(words[1]);
        Files.createDirectories(dir.toPath());
        log = UnifiedLog.create(dir, new LogConfig(props), Long.parseLong(words[4]), Long.parseLong(words[3]),
            new Immediately(), new BrokerTopicStats(), new Clock(), 3600000, new ProducerStateManagerConfig(86400000, false),
            600000, new LogDirFailureChannel(1), Boolean.parseBoolean(words[2]), Optional.empty());
        return "ok";
    }

    private String append(String[] words) throws Exception {
        AppendOrigin origin = AppendOrigin.valueOf(words[1]);
        MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(HexFormat.of().parseHex(words[3])));
        int epoch = Integer.parseInt(words[2]);
        LogAppendInfo info = origin == AppendOrigin.REPLICATION ? log.appendAsFollower(records, epoch)
            : log.appendAsLeader(records, epoch, origin, RequestLocal.noCaching(), VerificationGuard.SENTINEL, (short) 1);
        return info.firstOffset() + " " + info.lastOffset();
    }

    private boolean truncate(long offset) throws Exception {
        var method = UnifiedLog.class.getDeclaredMethod("truncateTo", long.class);
        method.setAccessible(true);
        return (Boolean) method.invoke(log, offset);
    }

    /** Compacts what is dirty from this offset on, with memory for so many keys, at this time; says what is clean by then. */
    private String clean(long from, int keys, long now) throws Exception {
        log.flush(false);
        var method = LogCleanerManager.class.getDeclaredMethod("cleanableOffsets", UnifiedLog.class, Optional.class, long.class);
        method.setAccessible(true);
        Object offsets = method.invoke(null, log, Optional.of(from), now);
        long first = number(offsets, "firstDirtyOffset");
        LogToClean dirty = new LogToClean(log, first, number(offsets, "firstUncleanableDirtyOffset"), false);
        long end = dirty.firstUncleanableOffset();
        if (first >= end)
            return first + " nothing";
        Throttler throttler = new Throttler(Double.MAX_VALUE, Long.MAX_VALUE, "cleaner", "bytes", new Clock());
        Cleaner cleaner = new Cleaner(0, new SkimpyOffsetMap(24 * keys), 1 << 20, 1 << 20, 1.0, throttler, new Clock(), partition -> { });
        return first + " " + end + " " + cleaner.doClean(dirty, now).getKey();
    }

    private static long number(Object record, String name) throws Exception {
        var method = record.getClass().getDeclaredMethod(name);
        method.setAccessible(true);
        return (Long) method.invoke(record);
    }

    private String describe() throws Exception {
        StringJoiner epochs = new StringJoiner(",");
        log.leaderEpochCache().epochEntries().forEach(e -> epochs.add(e.epoch() + "@" + e.startOffset()));
        TreeMap<Long, String> producers = new TreeMap<>();
        log.activeProducers().forEach(p -> producers.put(p.producerId(), p.producerId() + ":" + p.producerEpoch() + ":"
            + p.lastSequence() + ":" + p.lastTimestamp() + ":" + p.coordinatorEpoch() + ":" + p.currentTxnStartOffset()));
        StringJoiner segments = new StringJoiner(",");
        for (LogSegment segment : log.logSegments())
            segments.add(segment.baseOffset() + "+" + segment.size());
        return log.logStartOffset() + " " + log.logEndOffset() + " stable=" + log.lastStableOffset() + " epochs=" + epochs
            + " producers=" + String.join(",", producers.values()) + " segments=" + segments;
    }

    private String read(long offset, int bytes) throws Exception {
        FetchDataInfo info = log.read(offset, bytes, FetchIsolation.LOG_END, true);
        if (info.records.sizeInBytes() == 0)
            return "nothing";
        return info.records.batches().iterator().next().baseOffset() + " " + info.records.sizeInBytes();
    }

    private String time(long timestamp) throws Exception {
        var found = log.fetchOffsetByTimestamp(timestamp, Optional.empty()).timestampAndOffsetOpt();
        return found.map(f -> f.offset + " " + f.timestamp + " " + f.leaderEpoch.map(String::valueOf).orElse("-1")).orElse("none");
    }

    private String aborted(long from, int bytes) throws Exception {
        FetchDataInfo info = log.read(from, bytes, FetchIsolation.TXN_COMMITTED, true);
        StringJoiner aborted = new StringJoiner(",");
        info.abortedTransactions.orElse(java.util.List.of()).forEach(t -> aborted.add(t.producerId() + "@" + t.firstOffset()));
        return info.records.sizeInBytes() + " " + aborted;
    }

    private static final class Clock implements Time {
        @Override public long milliseconds() {
            return NOW;
        }
        @Override public long nanoseconds() {
            return NOW * 1000000;
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
            return (ScheduledFuture<?>) Proxy.newProxyInstance(LogFiles.class.getClassLoader(),
                new Class<?>[] {ScheduledFuture.class}, (proxy, method, args) -> method.getName().equals("cancel") ? true : null);
        }
    }
}
