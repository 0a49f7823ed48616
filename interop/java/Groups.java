import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;

import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.common.utils.internals.LogContext;
import org.apache.kafka.coordinator.common.runtime.CoordinatorMetadataDelta;
import org.apache.kafka.coordinator.common.runtime.CoordinatorMetadataImage;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecord;
import org.apache.kafka.coordinator.group.api.assignor.ConsumerGroupPartitionAssignor;
import org.apache.kafka.coordinator.group.api.assignor.SubscriptionType;
import org.apache.kafka.coordinator.group.assignor.RangeAssignor;
import org.apache.kafka.coordinator.group.assignor.UniformAssignor;
import org.apache.kafka.coordinator.group.generated.ConsumerGroupMemberMetadataValue;
import org.apache.kafka.coordinator.group.generated.ConsumerGroupTargetAssignmentMemberKey;
import org.apache.kafka.coordinator.group.generated.ConsumerGroupTargetAssignmentMemberValue;
import org.apache.kafka.coordinator.group.GroupCoordinatorRecordHelpers;
import org.apache.kafka.coordinator.group.modern.Assignment;
import org.apache.kafka.coordinator.group.modern.SubscriptionCount;
import org.apache.kafka.coordinator.group.modern.TargetAssignmentBuilder;
import org.apache.kafka.coordinator.group.modern.consumer.ConsumerGroup;
import org.apache.kafka.coordinator.group.modern.consumer.ConsumerGroupMember;
import org.apache.kafka.coordinator.group.util.UpdatedMembersAndTargetAssignmentView;
import org.apache.kafka.timeline.SnapshotRegistry;

/**
 * Lives through the histories of groups that `cargo xtask interop groups` sends, with Kafka's own group, members and
 * assignors, and compares what each step writes about target assignments. Of the differences the
 * first are told; the exit status is 1 if there were more than a few.
 */
public final class Groups {
    private static final int REPORTED_MAX = 3;
    /** `uniform` goes through sets whose order comes from their history; what of that is not known may show so often. */
    private static final int DIFFER_OF_1000_MAX = 1;
    private static final Map<String, ConsumerGroupPartitionAssignor> ASSIGNORS =
        Map.of("uniform", new UniformAssignor(), "range", new RangeAssignor());

    private record Topic(String name, Uuid id, int partitionCount) implements CoordinatorMetadataImage.TopicMetadata {
        @Override
        public List<String> partitionRacks(int partition) {
            return List.of();
        }
    }

    private static final class Image implements CoordinatorMetadataImage {
        final Map<String, Topic> names = new HashMap<>();
        final Map<Uuid, Topic> ids = new HashMap<>();

        void put(Topic topic) {
            names.put(topic.name(), topic);
            ids.put(topic.id(), topic);
        }

        @Override
        public Set<Uuid> topicIds() {
            return ids.keySet();
        }

        @Override
        public Set<String> topicNames() {
            return names.keySet();
        }

        @Override
        public Optional<TopicMetadata> topicMetadata(String name) {
            return Optional.ofNullable(names.get(name));
        }

        @Override
        public Optional<TopicMetadata> topicMetadata(Uuid id) {
            return Optional.ofNullable(ids.get(id));
        }

        @Override
        public CoordinatorMetadataDelta emptyDelta() {
            throw new UnsupportedOperationException();
        }

        @Override
        public long version() {
            return 1;
        }

        @Override
        public boolean isEmpty() {
            return names.isEmpty();
        }
    }

    private String history = "";
    private int step = 0;
    private String fallback = "uniform";
    private Image image = new Image();
    private ConsumerGroup group = null;
    /** Targets that change in this step. */
    private final Map<String, Assignment> ours = new TreeMap<>();
    private final Map<String, Assignment> theirs = new TreeMap<>();
    private final TreeMap<String, Long> counts = new TreeMap<>();
    private int differences = 0;
    /** How the last target was computed. */
    private String last = "";

    public static void main(String[] args) throws Exception {
        Groups groups = new Groups();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8), 1 << 20);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            groups.take(line.split(" "));
        }
        System.out.println("java: " + groups.counts);
        long compared = groups.counts.getOrDefault("compared", 0L);
        System.exit(groups.differences <= compared * DIFFER_OF_1000_MAX / 1000 ? 0 : 1);
    }

    private void take(String[] words) {
        switch (words[0]) {
            case "group" -> begin(words);
            case "topic" -> {
                Uuid id = new Uuid(Long.parseLong(words[2]), Long.parseLong(words[3]));
                image.put(new Topic(words[1], id, Integer.parseInt(words[4])));
            }
            case "member" -> member(words);
            case "leave" -> {
                group.removeMember(words[1]);
                group.removeTargetAssignment(words[1]);
                count("leaves");
            }
            case "record" -> record(words);
            case "done" -> done();
            default -> throw new IllegalArgumentException(words[0]);
        }
    }

    private void begin(String[] words) {
        history = words[1];
        step = 0;
        fallback = words[2];
        image = new Image();
        LogContext log = new LogContext();
        group = new ConsumerGroup(log, new SnapshotRegistry(log), "g");
        count("groups");
    }

    private static Optional<String> text(String word) {
        return word.equals("-") ? Optional.empty() : Optional.of(word);
    }

    /** member ID INSTANCE ASSIGNOR TOPICS assign|keep */
    private void member(String[] words) {
        String id = words[1];
        Optional<String> instance = text(words[2]);
        ConsumerGroupMember replaced = instance.map(group::staticMember).orElse(null);
        boolean replaces = replaced != null && !replaced.memberId().equals(id);
        ConsumerGroupMember old;
        if (replaces) {
            old = new ConsumerGroupMember.Builder(replaced, id).setMemberEpoch(0).setPreviousMemberEpoch(0).build();
            count("static members back");
        } else {
            old = group.getOrMaybeCreateMember(id, true);
        }
        List<String> topics = text(words[4]).map(t -> List.of(t.split(","))).orElse(List.of());
        ConsumerGroupMember updated = new ConsumerGroupMember.Builder(old)
            .maybeUpdateInstanceId(instance)
            .maybeUpdateServerAssignorName(text(words[3]))
            .maybeUpdateSubscribedTopicNames(Optional.of(topics))
            .build();
        List<CoordinatorRecord> records = new ArrayList<>();
        if (words[5].equals("assign")) {
            records = assign(old, updated);
        }
        if (replaces) {
            Assignment target = group.targetAssignment(replaced.memberId());
            group.removeMember(replaced.memberId());
            group.removeTargetAssignment(replaced.memberId());
            group.updateMember(old);
            ours.put(id, target);
        }
        if (replaces || !group.hasMember(id) || words[5].equals("assign") || !updated.equals(old)) {
            group.updateMember(asRecorded(updated));
        }
        note(records);
        count("joins and updates");
    }

    /** Members are replayed from their records. */
    private static ConsumerGroupMember asRecorded(ConsumerGroupMember member) {
        CoordinatorRecord record = GroupCoordinatorRecordHelpers.newConsumerGroupMemberSubscriptionRecord("g", member);
        ConsumerGroupMemberMetadataValue value = (ConsumerGroupMemberMetadataValue) record.value().message();
        return new ConsumerGroupMember.Builder(member).updateWith(value).build();
    }

    private List<CoordinatorRecord> assign(ConsumerGroupMember old, ConsumerGroupMember updated) {
        Map<String, SubscriptionCount> names = group.computeSubscribedTopicNames(old, updated);
        Map<String, Integer> regexes = group.computeSubscribedRegularExpressions(old, updated);
        int members = group.numMembers();
        if (!group.hasMember(updated.memberId()) && !group.hasStaticMember(updated.instanceId())) {
            members++;
        }
        SubscriptionType type = ConsumerGroup.subscriptionType(regexes, names, members);
        String assignor = group.computePreferredServerAssignor(old, updated).orElse(fallback);
        UpdatedMembersAndTargetAssignmentView<ConsumerGroupMember, Assignment> view =
            new UpdatedMembersAndTargetAssignmentView<>(
                group.members(), group.staticMembers(), group.targetAssignment(), ConsumerGroupMember::instanceId);
        view.addOrUpdateMember(updated.memberId(), updated);
        last = assignor + " " + type.toString().toLowerCase();
        count(last);
        return new TargetAssignmentBuilder.ConsumerTargetAssignmentBuilder("g", 1, ASSIGNORS.get(assignor))
            .withTime(Time.SYSTEM)
            .withMembers(view.members())
            .withSubscriptionType(type)
            .withTargetAssignment(view.targetAssignment())
            .withInvertedTargetAssignment(group.invertedTargetAssignment())
            .withMetadataImage(image)
            .withResolvedRegularExpressions(group.resolvedRegularExpressions())
            .build()
            .records();
    }

    private void note(List<CoordinatorRecord> records) {
        for (CoordinatorRecord record : records) {
            if (record.key() instanceof ConsumerGroupTargetAssignmentMemberKey key) {
                var value = (ConsumerGroupTargetAssignmentMemberValue) record.value().message();
                ours.put(key.memberId(), Assignment.fromRecord(value));
            }
        }
    }

    /** record MEMBER TOPIC:PARTITION,… …, in the order of Milena's record */
    private void record(String[] words) {
        var value = new ConsumerGroupTargetAssignmentMemberValue();
        for (String word : Arrays.asList(words).subList(2, words.length)) {
            String[] topic = word.split(":");
            List<Integer> partitions = new ArrayList<>();
            for (String partition : topic[1].split(",")) {
                partitions.add(Integer.parseInt(partition));
            }
            value.topicPartitions().add(new ConsumerGroupTargetAssignmentMemberValue.TopicPartition()
                .setTopicId(image.names.get(topic[0]).id())
                .setPartitions(partitions));
        }
        theirs.put(words[1], Assignment.fromRecord(value));
    }

    /** The group goes on from Milena's records, as a broker does that has loaded them. */
    private void done() {
        step++;
        count("compared");
        if (!ours.equals(theirs)) {
            differences++;
            count("differ by " + last);
            if (differences <= REPORTED_MAX) {
                System.out.println("history " + history + " step " + step + ", " + last + ": Kafka records");
                Set<String> members = new TreeSet<>(ours.keySet());
                members.addAll(theirs.keySet());
                for (String member : members) {
                    System.out.println("  " + member + " " + ours.get(member) + ", Milena " + theirs.get(member));
                }
            }
        }
        theirs.forEach(group::updateTargetAssignment);
        ours.clear();
        theirs.clear();
    }

    private void count(String what) {
        counts.merge(what, 1L, Long::sum);
    }
}
