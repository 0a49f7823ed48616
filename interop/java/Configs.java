import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.reflect.Field;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigException;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.requests.ApiError;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.coordinator.group.GroupConfig;
import org.apache.kafka.server.config.DynamicBrokerConfig;
import org.apache.kafka.server.metrics.ClientMetricsConfigs;
import org.apache.kafka.storage.internals.log.LogConfig;

import kafka.server.ControllerConfigurationValidator;
import kafka.server.KafkaConfig;

/**
 * Reads questions of `cargo xtask interop configs` from standard input, a line each: a verb, its arguments and
 * what Milena answers, separated by tabs. Lets Apache Kafka answer, its classes or a running broker (address as
 * the argument), and reports what differs. The exit status is 1 if there was a difference.
 */
public final class Configs {
    private static final int REPORTED_MAX = 60;

    private final Admin admin;
    private final Map<String, ConfigDef> tables = new HashMap<>();
    private final Map<String, Set<String>> named = new HashMap<>();
    private final Map<String, Integer> counts = new TreeMap<>();
    private int differences = 0;

    private Configs(Admin admin) throws ReflectiveOperationException {
        this.admin = admin;
        ConfigDef broker = new ConfigDef(KafkaConfig.configDef());
        org.apache.kafka.server.config.DynamicConfig.Broker.configKeys().forEach((name, key) -> {
            if (!broker.names().contains(name)) broker.define(key);
        });
        tables.put("broker", broker);
        tables.put("topic", LogConfig.configDefCopy());
        Field group = GroupConfig.class.getDeclaredField("CONFIG_DEF");
        group.setAccessible(true);
        tables.put("group", (ConfigDef) group.get(null));
        tables.put("client-metrics", ClientMetricsConfigs.configDef());
    }

    public static void main(String[] args) throws Exception {
        Properties props = new Properties();
        if (args.length > 0) props.put("bootstrap.servers", args[0]);
        try (Admin admin = args.length > 0 ? Admin.create(props) : null) {
            Configs configs = new Configs(admin);
            configs.answerAll();
            System.out.println("compared " + configs.counts + ", " + configs.differences + " differences");
            System.out.flush();
            if (configs.differences > 0) System.exit(1);
        }
    }

    private void answerAll() throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] parts = line.split("\t", -1);
            String expected = unescape(parts[parts.length - 1]);
            String actual;
            try {
                actual = answer(parts);
            } catch (Exception e) {
                actual = "failed: " + e;
            }
            counts.merge(parts[0], 1, Integer::sum);
            if (!actual.equals(expected)) report(parts, expected, actual);
        }
        missingKeys();
    }

    private void report(String[] parts, String expected, String actual) {
        differences++;
        if (differences > REPORTED_MAX) return;
        StringBuilder question = new StringBuilder();
        for (int i = 0; i < parts.length - 1; i++) question.append(parts[i]).append(' ');
        System.out.println("DIFFERS " + question);
        String[] ours = expected.split("\n", -1), theirs = actual.split("\n", -1);
        Set<String> ourLines = Set.of(distinct(ours)), theirLines = Set.of(distinct(theirs));
        for (String line : ours) if (!theirLines.contains(line)) System.out.println("   milena: " + line);
        for (String line : theirs) if (!ourLines.contains(line)) System.out.println("   kafka:  " + line);
    }

    private static String[] distinct(String[] lines) {
        return new HashSet<>(List.of(lines)).toArray(new String[0]);
    }

    private void missingKeys() {
        for (Map.Entry<String, Set<String>> entry : named.entrySet()) {
            Set<String> missing = new HashSet<>(tables.get(entry.getKey()).names());
            missing.removeAll(entry.getValue());
            for (String name : missing) report(new String[] {"key", entry.getKey(), name, ""}, "nothing", "has it");
        }
    }

    private String answer(String[] parts) throws Exception {
        switch (parts[0]) {
            case "key": return key(parts[1], parts[2]);
            case "value": return value(parts[1], parts[2], unescape(parts[3]));
            case "strict": return strict(parts[1], parts[2], unescape(parts[3]));
            case "check": return check(parts[1], unescape(parts[2]), pairs(parts[3]), pairs(parts[4]));
            case "settings": return settings(pairs(parts[1]), pairs(parts[2]));
            case "start": return start(pairs(parts[1]));
            case "create": return create(parts[1], pairs(parts[2]));
            case "alter": return alter(parts[1], unescape(parts[2]), parts[3]);
            case "describe": return describe(parts[1], unescape(parts[2]), parts[3]);
            default: return "unknown verb " + parts[0];
        }
    }

    private String key(String scope, String name) {
        named.computeIfAbsent(scope, ignored -> new HashSet<>()).add(name);
        ConfigDef.ConfigKey key = tables.get(scope).configKeys().get(name);
        if (key == null) return "has it not";
        String mode = "read-only";
        if (scope.equals("broker")) {
            mode = DynamicBrokerConfig.dynamicConfigUpdateModes().getOrDefault(name, mode);
            if (!KafkaConfig.configDef().names().contains(name)) mode += "-only";
        } else {
            mode = "resource";
        }
        String defaultValue = !key.hasDefault() ? "(required)"
            : key.defaultValue == null ? "(null)" : ConfigDef.convertToString(key.defaultValue, key.type);
        return String.join("\n", key.type.name(), defaultValue, key.importance.name().toLowerCase(),
            String.valueOf(key.internalConfig), mode, synonyms(scope, name));
    }

    private static String synonyms(String scope, String name) {
        if (scope.equals("broker")) {
            List<String> names = DynamicBrokerConfig.brokerConfigSynonyms(name, true);
            return names.equals(List.of(name)) ? "" : String.join(",", names);
        } else if (scope.equals("topic")) {
            StringBuilder out = new StringBuilder();
            var all = org.apache.kafka.server.config.ServerTopicConfigSynonyms.ALL_TOPIC_CONFIG_SYNONYMS;
            for (var synonym : all.getOrDefault(name, List.of())) {
                String factor = synonym.converter().apply("1");
                out.append(out.isEmpty() ? "" : ",").append(synonym.name()).append(factor.equals("1") ? "" : "*" + factor);
            }
            return out.toString();
        }
        return scope.equals("group") ? GroupConfig.brokerSynonym(name).orElse("") : "";
    }

    private String value(String scope, String name, String text) {
        ConfigDef.ConfigKey key = tables.get(scope).configKeys().get(name);
        ConfigDef alone = new ConfigDef();
        alone.define(key);
        try {
            return "ok " + ConfigDef.convertToString(alone.parse(Map.of(name, text)).get(name), key.type);
        } catch (ConfigException e) {
            return e.getMessage();
        }
    }

    /** As a broker's dynamic configs are checked: without dropping what a list repeats. */
    private String strict(String scope, String name, String text) {
        ConfigDef.ConfigKey key = tables.get(scope).configKeys().get(name);
        try {
            Object parsed = ConfigDef.parseType(name, text, key.type);
            if (key.validator != null) key.validator.ensureValid(name, parsed);
            return "ok " + ConfigDef.convertToString(parsed, key.type);
        } catch (ConfigException e) {
            return e.getMessage();
        }
    }

    private static KafkaConfig node(Map<String, String> properties) {
        Properties props = new Properties();
        props.putAll(properties);
        return KafkaConfig.fromProps(props, false);
    }

    private static final Map<String, String> NODE = Map.of("process.roles", "broker,controller", "node.id", "1",
        "controller.listener.names", "CONTROLLER", "controller.quorum.voters", "1@localhost:9093",
        "listeners", "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093");

    private String check(String type, String name, Map<String, String> old, Map<String, String> changed) {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.valueOf(type), name);
        try {
            new ControllerConfigurationValidator(node(NODE)).validate(resource, changed, old);
            return "ok";
        } catch (ConfigException e) {
            return Errors.INVALID_CONFIG + ": " + e.getMessage();
        } catch (Throwable e) {
            ApiError error = ApiError.fromThrowable(e);
            return error.error() + ": " + error.message();
        }
    }

    private String settings(Map<String, String> node, Map<String, String> own) {
        Properties overrides = new Properties();
        overrides.putAll(own);
        Map<String, String> all = new HashMap<>(NODE);
        all.putAll(node);
        LogConfig config = LogConfig.fromProps(node(all).extractLogConfigMap(), overrides);
        Map<String, String> values = new TreeMap<>();
        config.values().forEach((name, value) -> values.put(name,
            String.valueOf(ConfigDef.convertToString(value, LogConfig.configType(name).orElseThrow()))));
        List<String> lines = new ArrayList<>();
        values.forEach((name, value) -> lines.add(name + "=" + value));
        return String.join("\n", lines);
    }

    private String start(Map<String, String> properties) {
        try {
            node(properties);
            return "starts";
        } catch (RuntimeException e) {
            return "refused";
        }
    }

    private String create(String name, Map<String, String> configs) throws Exception {
        CreateTopicsResult result = admin.createTopics(List.of(new NewTopic(name, Optional.of(1), Optional.empty()).configs(configs)));
        return outcome(() -> {
            result.all().get(30, TimeUnit.SECONDS);
            return lines(result.config(name).get().entries(), entry -> String.join("|", entry.name(),
                entry.value(), entry.source().name(), String.valueOf(entry.isReadOnly())));
        });
    }

    private String alter(String type, String name, String ops) throws Exception {
        Collection<AlterConfigOp> list = new ArrayList<>();
        for (String op : ops.split("\u001f")) {
            String[] parts = op.split("=", 3);
            String value = parts[0].equals("DELETE") ? null : unescape(parts[2]);
            list.add(new AlterConfigOp(new ConfigEntry(parts[1], value), AlterConfigOp.OpType.valueOf(parts[0])));
        }
        ConfigResource resource = new ConfigResource(ConfigResource.Type.valueOf(type), name);
        return outcome(() -> {
            admin.incrementalAlterConfigs(Map.of(resource, list)).all().get(30, TimeUnit.SECONDS);
            return "ok";
        });
    }

    /** Describes a resource; with a line `until KEY=VALUE` it asks again until the broker has heard of a change. */
    private String describe(String type, String name, String until) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.valueOf(type), name);
        DescribeConfigsOptions options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        String answer = "";
        for (int attempt = 0; attempt < 100; attempt++) {
            answer = outcome(() -> lines(admin.describeConfigs(List.of(resource), options).all().get(30, TimeUnit.SECONDS).get(resource).entries(),
                Configs::entry));
            if (until.isEmpty() || List.of(answer.split("\n")).stream().anyMatch(line -> line.startsWith(until))) break;
            Thread.sleep(50);
        }
        return answer;
    }

    private static String entry(ConfigEntry entry) {
        StringBuilder out = new StringBuilder(String.join("|", entry.name(), String.valueOf(entry.value()),
            entry.source().name(), String.valueOf(entry.isReadOnly()), String.valueOf(entry.isSensitive()), entry.type().name()));
        for (ConfigEntry.ConfigSynonym s : entry.synonyms()) out.append('|').append(s.source()).append(':').append(s.name()).append('=').append(s.value());
        return out.toString();
    }

    private interface Call {
        String get() throws Exception;
    }

    private static String outcome(Call call) throws Exception {
        try {
            return call.get();
        } catch (ExecutionException e) {
            ApiError error = ApiError.fromThrowable(e.getCause());
            return error.error() + ": " + e.getCause().getMessage();
        }
    }

    private static String lines(Collection<ConfigEntry> entries, java.util.function.Function<ConfigEntry, String> text) {
        return String.join("\n", entries.stream().map(text).sorted().toList());
    }

    private static Map<String, String> pairs(String text) {
        Map<String, String> pairs = new HashMap<>();
        if (text.isEmpty()) return pairs;
        for (String pair : text.split("\u001f")) {
            String[] parts = pair.split("=", 2);
            pairs.put(unescape(parts[0]), unescape(parts[1]));
        }
        return pairs;
    }

    private static String unescape(String text) {
        return text.replace("\\t", "\t").replace("\\n", "\n");
    }
}
