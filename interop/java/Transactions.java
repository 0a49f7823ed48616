import java.io.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;
import org.apache.logging.log4j.Level;
import org.apache.logging.log4j.core.config.Configurator;

/**
 * Transactions step by step (`say BOOTSTRAP`: commands on standard input, an answer a line), and a copy of one topic to
 * another exactly once (`fill`, `copy`, `check`).
 */
public final class Transactions {
    static final Duration LIMIT = Duration.ofSeconds(60);
    /** Records of one transaction of the copier. */
    static final int BATCH = 250;

    static String bootstrap;
    static final Map<String, KafkaProducer<String, String>> producers = new TreeMap<>();

    public static void main(String[] words) throws Exception {
        Configurator.setRootLevel(Level.ERROR);
        bootstrap = words[1];
        switch (words[0]) {
            case "say": say(); break;
            case "fill": fill(words[2], Integer.parseInt(words[3]), Integer.parseInt(words[4])); break;
            case "copy": copy(words[2], words[3], words[4]); break;
            case "check": check(words[2]); break;
            default: throw new IllegalArgumentException(words[0]);
        }
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    static Map<String, Object> config(Object... pairs) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        for (int i = 0; i < pairs.length; i += 2) config.put((String) pairs[i], pairs[i + 1]);
        return config;
    }

    static KafkaProducer<String, String> producer(Object... pairs) {
        return new KafkaProducer<>(config(pairs), new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(Object... pairs) {
        Map<String, Object> config = config(pairs);
        config.putIfAbsent("isolation.level", "read_committed");
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", false);
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    // Step by step.

    static void say() throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        try (Admin admin = Admin.create(config())) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                String answer;
                try {
                    answer = answer(admin, line.split(" "));
                } catch (ExecutionException e) {
                    answer = e.getCause().getClass().getSimpleName();
                } catch (KafkaException e) {
                    answer = e.getClass().getSimpleName();
                }
                System.out.println(answer);
                System.out.flush();
            }
        }
    }

    static String answer(Admin admin, String[] w) throws Exception {
        switch (w[0]) {
            case "topic":
                admin.createTopics(List.of(new NewTopic(w[1], 1, (short) 1))).all().get();
                return "ok";
            case "start": {
                KafkaProducer<String, String> made = producer(
                    "transactional.id", w[1], "transaction.timeout.ms", Integer.parseInt(w[3]));
                producers.put(w[2], made);
                made.initTransactions();
                return "ok";
            }
            case "begin": producers.get(w[1]).beginTransaction(); return "ok";
            case "send":
                producers.get(w[1]).send(new ProducerRecord<>(w[2], w[3])).get();
                return "ok";
            case "offset":
                try (KafkaConsumer<String, String> consumer = consumer("group.id", w[2])) {
                    producers.get(w[1]).sendOffsetsToTransaction(
                        Map.of(new TopicPartition(w[3], 0), new OffsetAndMetadata(Long.parseLong(w[4]))),
                        consumer.groupMetadata());
                }
                return "ok";
            case "commit": producers.get(w[1]).commitTransaction(); return "ok";
            case "abort": producers.get(w[1]).abortTransaction(); return "ok";
            case "read": return String.join(" ", read(w[1], w[2]));
            case "offsets": return String.valueOf(admin.listConsumerGroupOffsets(w[1])
                .partitionsToOffsetAndMetadata().get().get(new TopicPartition(w[2], 0)).offset());
            case "describe": return admin.describeTransactions(List.of(w[1])).description(w[1]).get().state().toString();
            case "coordinator": return String.valueOf(
                admin.describeTransactions(List.of(w[1])).description(w[1]).get().coordinatorId());
            case "list": return admin.listTransactions().all().get().stream()
                .map(t -> t.transactionalId() + "=" + t.state()).sorted().collect(Collectors.joining(" "));
            default: throw new IllegalArgumentException(w[0]);
        }
    }

    static List<String> read(String isolation, String topic) {
        List<String> found = new ArrayList<>();
        try (KafkaConsumer<String, String> consumer = consumer("isolation.level", isolation)) {
            TopicPartition partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            while (consumer.position(partition) < end) {
                for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(200))) found.add(r.value());
            }
        }
        return found;
    }

    // The copy.

    /** Numbers from 0 on in each partition. */
    static void fill(String topic, int partitions, int each) throws Exception {
        try (Admin admin = Admin.create(config())) {
            for (String name : List.of(topic, topic + "-copy")) {
                admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1))).all().get();
            }
        }
        try (KafkaProducer<String, String> producer = producer("linger.ms", 5)) {
            for (int n = 0; n < each; n++) {
                for (int p = 0; p < partitions; p++) {
                    producer.send(new ProducerRecord<>(topic, p, null, Integer.toString(n)));
                }
            }
            producer.flush();
        }
        System.out.println(partitions * each);
    }

    /** Copies until there is nothing left; says after each transaction how many records it has copied. */
    static void copy(String topic, String group, String id) {
        KafkaConsumer<String, String> consumer = consumer(
            "group.id", group, "group.instance.id", id, "max.poll.records", BATCH, "session.timeout.ms", 30000);
        KafkaProducer<String, String> producer = producer(
            "transactional.id", id, "delivery.timeout.ms", 60000, "request.timeout.ms", 10000, "linger.ms", 1);
        retried(() -> producer.initTransactions());
        consumer.subscribe(List.of(topic));
        long copied = 0;
        while (true) {
            ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(500));
            if (records.isEmpty()) {
                if (isDone(consumer)) break;
                continue;
            }
            try {
                producer.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (ConsumerRecord<String, String> r : records) {
                    producer.send(new ProducerRecord<>(topic + "-copy", r.partition(), null, r.value()));
                    offsets.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
                }
                producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                retried(() -> producer.commitTransaction());
                copied += records.count();
                System.out.println("copied " + copied);
            } catch (ProducerFencedException | OutOfOrderSequenceException | InvalidProducerEpochException e) {
                throw e;
            } catch (KafkaException e) {
                System.out.println("aborted " + e.getClass().getSimpleName());
                retried(() -> producer.abortTransaction());
                goBack(consumer);
            }
            System.out.flush();
        }
        System.out.println("done " + copied);
    }

    /** The node may be away. */
    static void retried(Runnable work) {
        for (int tries = 0; ; tries++) {
            try { work.run(); return; }
            catch (TimeoutException e) { if (tries == 3) throw e; }
        }
    }

    static void goBack(KafkaConsumer<String, String> consumer) {
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(consumer.assignment(), LIMIT);
        for (TopicPartition partition : consumer.assignment()) {
            OffsetAndMetadata offset = committed.get(partition);
            if (offset == null) consumer.seekToBeginning(List.of(partition));
            else consumer.seek(partition, offset);
        }
    }

    static boolean isDone(KafkaConsumer<String, String> consumer) {
        Set<TopicPartition> mine = consumer.assignment();
        if (mine.isEmpty()) return false;
        try {
            Map<TopicPartition, Long> ends = consumer.endOffsets(mine, LIMIT);
            return mine.stream().allMatch(p -> consumer.position(p, LIMIT) >= ends.get(p));
        } catch (TimeoutException e) {
            return false;
        }
    }

    /** For each partition: records, how many are not the next number, and how many more were written and not committed. */
    static void check(String topic) {
        String copy = topic + "-copy";
        for (String isolation : List.of("read_committed", "read_uncommitted")) {
            try (KafkaConsumer<String, String> consumer = consumer("isolation.level", isolation)) {
                List<TopicPartition> all = consumer.partitionsFor(copy).stream()
                    .map(p -> new TopicPartition(copy, p.partition())).collect(Collectors.toList());
                consumer.assign(all);
                consumer.seekToBeginning(all);
                Map<TopicPartition, Long> ends = consumer.endOffsets(all);
                Map<Integer, Long> next = new TreeMap<>();
                long wrong = 0, count = 0;
                while (all.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
                    for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(500))) {
                        long expected = next.getOrDefault(r.partition(), 0L);
                        if (Long.parseLong(r.value()) != expected) wrong++;
                        next.put(r.partition(), Long.parseLong(r.value()) + 1);
                        count++;
                    }
                }
                System.out.println(isolation + " " + count + " " + wrong + " " + next.values().stream().distinct().count()
                    + " " + next.values().stream().mapToLong(v -> v).sum());
            }
        }
    }
}
