import java.io.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

/**
 * Apache Kafka's own clients at work, all in this process: an idempotent producer, a transactional one of which every
 * seventh transaction is aborted, and two members of a group that read what is committed. Arguments: bootstrap servers,
 * a topic for each producer, records a second. Standard input: "progress" or "end". Standard output: a line for each.
 * Every value is sent once, so that a value at two offsets was appended twice.
 */
public final class Workload {
    static final String GROUP = "workers";
    static final int IN_A_TRANSACTION = 10;
    static final long PATIENCE_MS = 90_000;

    static String bootstrap, plain, transactional;
    static int perSecond;
    static volatile boolean ends, closes;
    static final Set<String> acked = ConcurrentHashMap.newKeySet();
    static final Set<String> aborted = ConcurrentHashMap.newKeySet();
    static final Set<String> read = ConcurrentHashMap.newKeySet();
    static final AtomicLong again = new AtomicLong(), sent = new AtomicLong(), committed = new AtomicLong();
    static final AtomicLong failed = new AtomicLong(), slowestMs = new AtomicLong();

    public static void main(String[] arguments) throws Exception {
        // Clients warn of each leader that has moved.
        org.apache.logging.log4j.core.config.Configurator.setRootLevel(org.apache.logging.log4j.Level.ERROR);
        bootstrap = arguments[0];
        plain = arguments[1];
        transactional = arguments[2];
        perSecond = Integer.parseInt(arguments[3]);
        List<Thread> producers = List.of(start(Workload::produce), start(Workload::produceInTransactions));
        List<Thread> members = List.of(start(Workload::consume), start(Workload::consume));
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            if (line.equals("progress")) {
                System.out.println("sent " + sent + " committed " + committed + " read " + read.size());
            } else if (line.equals("end")) {
                ends = true;
                for (Thread thread : producers) thread.join();
                awaitReaders();
                closes = true;
                for (Thread thread : members) thread.join();
                report();
                break;
            }
        }
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    interface Body { void run() throws Exception; }

    static Thread start(Body body) {
        Thread thread = new Thread(() -> {
            try { body.run(); } catch (Throwable why) { failed.incrementAndGet(); why.printStackTrace(); }
        });
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    static KafkaProducer<String, String> producer(String transactionalId) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("acks", "all");
        p.put("enable.idempotence", "true");
        p.put("linger.ms", "5");
        p.put("delivery.timeout.ms", "120000");
        p.put("request.timeout.ms", "10000");
        p.put("max.block.ms", "60000");
        p.put("reconnect.backoff.max.ms", "500");
        if (transactionalId != null) p.put("transactional.id", transactionalId);
        return new KafkaProducer<>(p, new StringSerializer(), new StringSerializer());
    }

    static void produce() throws Exception {
        try (KafkaProducer<String, String> producer = producer(null)) {
            for (long n = 0; !ends; n++) {
                String value = "p" + n;
                long begun = System.nanoTime();
                producer.send(new ProducerRecord<>(plain, (String) null, value), (at, why) -> {
                    slowestMs.accumulateAndGet((System.nanoTime() - begun) / 1_000_000, Math::max);
                    if (why == null) { acked.add(value); sent.incrementAndGet(); }
                    else { failed.incrementAndGet(); System.err.println(value + ": " + why); }
                });
                if (n % 20 == 19) Thread.sleep(20_000 / perSecond);
            }
        }
    }

    static void produceInTransactions() throws Exception {
        try (KafkaProducer<String, String> producer = producer("mover")) {
            producer.initTransactions();
            for (long number = 0, n = 0; !ends; number++) {
                List<String> values = new ArrayList<>();
                boolean commits = number % 7 != 6;
                try {
                    producer.beginTransaction();
                    for (int i = 0; i < IN_A_TRANSACTION; i++, n++) {
                        values.add("t" + n);
                        producer.send(new ProducerRecord<>(transactional, (String) null, "t" + n));
                    }
                    producer.flush();
                    if (commits) commit(producer); else producer.abortTransaction();
                } catch (TransactionAbortableException | TimeoutException why) {
                    System.err.println("a transaction is aborted: " + why);
                    commits = false;
                    producer.abortTransaction();
                }
                (commits ? acked : aborted).addAll(values);
                if (commits) committed.addAndGet(values.size());
                Thread.sleep(IN_A_TRANSACTION * 1000 / perSecond);
            }
        }
    }

    /** A commit whose answer was late is asked for again. */
    static void commit(KafkaProducer<String, String> producer) {
        while (true) {
            try { producer.commitTransaction(); return; }
            catch (TimeoutException why) { System.err.println("a commit is sent again: " + why); }
        }
    }

    static KafkaConsumer<String, String> consumer(String group) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("isolation.level", "read_committed");
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "earliest");
        p.put("session.timeout.ms", "10000");
        p.put("heartbeat.interval.ms", "1000");
        p.put("request.timeout.ms", "10000");
        p.put("reconnect.backoff.max.ms", "500");
        if (group != null) p.put("group.id", group);
        return new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer());
    }

    static void consume() throws Exception {
        try (KafkaConsumer<String, String> consumer = consumer(GROUP)) {
            consumer.subscribe(List.of(plain, transactional));
            while (!closes) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
                for (ConsumerRecord<String, String> record : records)
                    if (!read.add(record.value())) again.incrementAndGet();
                if (records.isEmpty()) continue;
                try { consumer.commitSync(); }
                catch (CommitFailedException | RebalanceInProgressException | TimeoutException why) {
                    System.err.println("a commit failed: " + why);
                }
            }
        }
    }

    static void awaitReaders() throws Exception {
        long until = System.currentTimeMillis() + PATIENCE_MS;
        while (!read.containsAll(acked) && System.currentTimeMillis() < until) Thread.sleep(50);
    }

    /** Reads both topics once more, from the beginning to the end, by nobody's group. */
    static void report() {
        Map<String, Integer> found = new HashMap<>();
        try (KafkaConsumer<String, String> consumer = consumer(null)) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (String topic : List.of(plain, transactional))
                for (PartitionInfo info : consumer.partitionsFor(topic))
                    partitions.add(new TopicPartition(topic, info.partition()));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            long until = System.currentTimeMillis() + PATIENCE_MS;
            boolean done = false;
            while (!done && System.currentTimeMillis() < until) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200)))
                    found.merge(record.value(), 1, Integer::sum);
                done = ends.entrySet().stream().allMatch(e -> consumer.position(e.getKey()) >= e.getValue());
            }
        }
        long lost = acked.stream().filter(value -> !found.containsKey(value)).count();
        long twice = found.values().stream().filter(count -> count > 1).count();
        long unreal = aborted.stream().filter(value -> found.containsKey(value) || read.contains(value)).count();
        long unread = acked.stream().filter(value -> !read.contains(value)).count();
        System.out.println("acked " + acked.size() + " aborted " + aborted.size() + " failed " + failed + " lost " + lost
            + " twice " + twice + " unreal " + unreal + " unread " + unread + " again " + again
            + " slowest_ms " + slowestMs);
    }
}
