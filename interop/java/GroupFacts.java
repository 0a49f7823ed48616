import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;

import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.logging.log4j.Level;
import org.apache.logging.log4j.core.config.Configurator;

/**
 * Members of one group, one thread each, told what to do by lines: `add N` starts members, `close N` lets the newest
 * ones leave, `wait LAYOUT` waits until the members have so many partitions each, `read N` until so many records have been read, `report` says what was seen. Each line is answered by one that begins with `ok` or `failed`.
 * Arguments: bootstrap servers, group, topic, further properties as key=value.
 */
public final class GroupFacts {
    private static final long PATIENCE_MS = 40_000;

    private final Map<String, Object> properties = new HashMap<>();
    private final String topic;
    private final List<Member> members = new ArrayList<>();
    /** Who has a partition now, as the listeners tell it. */
    private final Map<TopicPartition, Integer> owners = new ConcurrentHashMap<>();
    private final AtomicInteger shared = new AtomicInteger();
    private final AtomicInteger rebalances = new AtomicInteger();
    private final AtomicLong records = new AtomicLong();
    private final AtomicInteger commitsFailed = new AtomicInteger();
    private final AtomicLong twice = new AtomicLong();
    private final Map<String, Integer> seen = new ConcurrentHashMap<>();

    private GroupFacts(String[] args) {
        properties.put("bootstrap.servers", args[0]);
        properties.put("group.id", args[1]);
        properties.put("auto.offset.reset", "earliest");
        properties.put("key.deserializer", StringDeserializer.class);
        properties.put("value.deserializer", StringDeserializer.class);
        topic = args[2];
        for (int i = 3; i < args.length; i++) {
            String[] pair = args[i].split("=", 2);
            properties.put(pair[0], pair[1]);
        }
    }

    public static void main(String[] args) throws Exception {
        // Brokers that go and come back are what is asked for.
        Configurator.setLevel("org.apache.kafka", Level.ERROR);
        GroupFacts facts = new GroupFacts(args);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            System.out.println(facts.take(line.split(" ")));
        }
        facts.close(facts.members.size());
        System.exit(0);
    }

    private String take(String[] words) throws Exception {
        switch (words[0]) {
            case "add":
                for (int i = 0; i < Integer.parseInt(words[1]); i++) {
                    Member member = new Member(members.size());
                    members.add(member);
                    member.start();
                }
                return "ok";
            case "close":
                close(Integer.parseInt(words[1]));
                return "ok";
            case "wait":
                return until(words[1]);
            case "members":
                return "ok " + members.size();
            case "read":
                return untilRead(Long.parseLong(words[1]));
            case "report":
                return "ok " + rebalances.get() + " " + shared.get() + " " + records.get() + " " + twice.get()
                    + " " + commitsFailed.get();
            default:
                return "failed: " + words[0] + " is unknown";
        }
    }

    private void close(int count) throws Exception {
        List<Member> leaving = new ArrayList<>(members.subList(members.size() - count, members.size()));
        for (Member member : leaving) {
            member.consumer.wakeup();
        }
        for (Member member : leaving) {
            member.join();
        }
        members.removeAll(leaving);
    }

    /** LAYOUT: how many partitions the members have, ascending, as 0,1,1. */
    private String until(String layout) throws Exception {
        long began = System.nanoTime();
        String now = "";
        while (System.nanoTime() - began < PATIENCE_MS * 1_000_000) {
            now = sizes();
            if (now.equals(layout)) {
                return "ok " + (System.nanoTime() - began) / 1_000_000;
            }
            Thread.sleep(10);
        }
        return "failed: the members have " + now + ", not " + layout;
    }

    private String untilRead(long count) throws Exception {
        long began = System.nanoTime();
        while (seen.size() < count) {
            if (System.nanoTime() - began > PATIENCE_MS * 1_000_000) {
                return "failed: " + seen.size() + " records were read, not " + count;
            }
            Thread.sleep(10);
        }
        return "ok " + (System.nanoTime() - began) / 1_000_000;
    }

    private String sizes() {
        TreeMap<Integer, Integer> sizes = new TreeMap<>();
        members.forEach(member -> sizes.put(member.number, 0));
        owners.values().forEach(member -> sizes.merge(member, 1, Integer::sum));
        List<String> sorted = new ArrayList<>();
        sizes.values().stream().sorted().forEach(size -> sorted.add(size.toString()));
        return String.join(",", sorted);
    }

    private final class Member extends Thread implements ConsumerRebalanceListener {
        private final int number;
        private final KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties);

        Member(int number) {
            this.number = number;
            setDaemon(true);
        }

        @Override
        public void run() {
            try {
                consumer.subscribe(List.of(topic), this);
                while (true) {
                    for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                        records.incrementAndGet();
                        // Nobody but the owner reads, and nothing is read twice while offsets are committed.
                        Integer owner = owners.get(new TopicPartition(record.topic(), record.partition()));
                        if (owner == null || owner != number) {
                            shared.incrementAndGet();
                        }
                        if (seen.put(record.partition() + "-" + record.offset(), number) != null) {
                            twice.incrementAndGet();
                        }
                    }
                    try {
                        consumer.commitSync();
                    } catch (CommitFailedException | RebalanceInProgressException | RetriableException e) {
                        // A rebalance, or another broker: the next commit tells.
                        commitsFailed.incrementAndGet();
                    }
                }
            } catch (WakeupException e) {
                consumer.close();
            } catch (Exception e) {
                System.err.println("member " + number + ": " + e);
                throw e;
            }
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            rebalances.incrementAndGet();
            for (TopicPartition partition : partitions) {
                Integer other = owners.put(partition, number);
                if (other != null && other != number) {
                    System.err.println(partition + " is with " + other + " and with " + number);
                    shared.incrementAndGet();
                }
            }
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            for (TopicPartition partition : partitions) {
                owners.remove(partition, number);
            }
        }
    }
}
