import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;

import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecord;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecordSerde;
import org.apache.kafka.coordinator.group.GroupCoordinatorRecordSerde;
import org.apache.kafka.coordinator.share.ShareCoordinatorRecordSerde;
import org.apache.kafka.coordinator.transaction.TransactionCoordinatorRecordSerde;
import org.apache.kafka.metadata.MetadataRecordSerde;
import org.apache.kafka.server.common.ApiMessageAndVersion;
import org.apache.kafka.server.common.serialization.AbstractApiMessageSerde;

/**
 * Reads from standard input what `cargo xtask interop bytes` made, lets Kafka's own classes read, write and
 * print it, and compares. Every difference is a line; the exit status is 1 if there was one.
 */
public final class MessageBytes {
    private static final String[] PACKAGES = {
        "org.apache.kafka.common.message.",
        "org.apache.kafka.common.metadata.",
        "org.apache.kafka.coordinator.group.generated.",
        "org.apache.kafka.coordinator.share.generated.",
        "org.apache.kafka.coordinator.transaction.generated.",
        "org.apache.kafka.raft.generated.",
        "org.apache.kafka.server.log.remote.metadata.storage.generated.",
    };
    private static final int REPORTED_MAX = 40;

    private final DataInputStream in;
    private final ObjectMapper mapper = new ObjectMapper();
    private final Map<String, Kind> kinds = new HashMap<>();
    private final Map<String, Long> counts = new TreeMap<>();
    private final Set<Integer> apis = new HashSet<>();
    private final Set<Integer> errors = new HashSet<>();
    private int differences = 0;

    private MessageBytes(DataInputStream in) {
        this.in = in;
    }

    /** A message class with its JSON converter. */
    private static final class Kind {
        final Class<?> type;
        final Method toJson;
        final Method fromJson;

        Kind(String name) throws ReflectiveOperationException {
            Class<?> found = null;
            for (String prefix : PACKAGES) {
                for (String suffix : new String[] {"Data", ""}) {
                    try {
                        found = found == null ? Class.forName(prefix + name + suffix) : found;
                    } catch (ClassNotFoundException e) {
                        // The next place.
                    }
                }
            }
            if (found == null) {
                throw new ClassNotFoundException(name);
            }
            type = found;
            Class<?> converter = Class.forName(type.getName() + "JsonConverter");
            toJson = converter.getMethod("write", type, short.class);
            fromJson = converter.getMethod("read", JsonNode.class, short.class);
        }

        Message fresh() throws ReflectiveOperationException {
            return (Message) type.getConstructor().newInstance();
        }
    }

    public static void main(String[] arguments) throws Exception {
        MessageBytes comparison = new MessageBytes(
            new DataInputStream(new BufferedInputStream(System.in, 1 << 20)));
        comparison.run();
        comparison.counts.forEach((what, count) -> System.out.println("  " + count + " " + what));
        System.out.println("  " + comparison.differences + " differences");
        System.exit(comparison.differences == 0 ? 0 : 1);
    }

    private void run() throws Exception {
        while (true) {
            switch (in.readByte()) {
                case 0: finish(); return;
                case 1: body(); break;
                case 2: defaults(); break;
                case 3: framed(); break;
                case 4: coordinator(); break;
                case 5: api(); break;
                case 6: error(); break;
                default: throw new IOException("the stream is out of step");
            }
        }
    }

    private byte[] bytes() throws IOException {
        int length = in.readInt();
        return length < 0 ? null : in.readNBytes(length);
    }

    private String text() throws IOException {
        return new String(bytes(), StandardCharsets.UTF_8);
    }

    private void count(String what) {
        counts.merge(what, 1L, Long::sum);
    }

    private void differ(String where, Object ours, Object theirs) {
        differences++;
        if (differences <= REPORTED_MAX) {
            System.out.println("DIFFERENT " + where + "\n  Milena " + shown(ours) + "\n  Kafka  " + shown(theirs));
        }
    }

    private static String shown(Object value) {
        String text = value instanceof byte[] ? hex((byte[]) value) : String.valueOf(value);
        return text.length() > 600 ? text.substring(0, 600) + "…" : text;
    }

    private static String hex(byte[] bytes) {
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < Math.min(bytes.length, 400); i++) {
            text.append(String.format("%02x", bytes[i]));
        }
        return text.toString();
    }

    private void same(String where, byte[] ours, byte[] theirs) {
        if (!Arrays.equals(ours, theirs)) {
            differ(where, ours == null ? "refuses" : ours, theirs == null ? "refuses" : theirs);
        }
    }

    private void same(String where, Object ours, Object theirs) {
        if (!ours.equals(theirs)) {
            differ(where, ours, theirs);
        }
    }

    private Kind kind(String name) throws ReflectiveOperationException {
        Kind kind = kinds.get(name);
        if (kind == null) {
            kind = new Kind(name);
            kinds.put(name, kind);
        }
        return kind;
    }

    /** The bytes of a message, or null where Kafka refuses to write it. */
    private static byte[] write(Message message, short version) {
        try {
            ObjectSerializationCache cache = new ObjectSerializationCache();
            ByteBuffer buffer = ByteBuffer.allocate(message.size(cache, version));
            message.write(new ByteBufferAccessor(buffer), cache, version);
            if (buffer.hasRemaining()) {
                throw new IllegalStateException("size and bytes differ");
            }
            return buffer.array();
        } catch (UnsupportedVersionException | NullPointerException refused) {
            return null;
        }
    }

    private Message read(String where, Kind kind, byte[] bytes, short version) throws Exception {
        Message message = kind.fresh();
        ByteBufferAccessor accessor = new ByteBufferAccessor(ByteBuffer.wrap(bytes));
        try {
            message.read(accessor, version);
        } catch (RuntimeException e) {
            differ(where + ": Kafka cannot read", bytes, e);
            return null;
        }
        same(where + ": bytes left", 0, accessor.remaining());
        return message;
    }

    private void body() throws Exception {
        text();
        String name = text();
        short version = in.readShort();
        byte[] bytes = bytes();
        byte[] tagged = bytes();
        String json = text();
        boolean records = in.readBoolean();
        String where = name + " v" + version;
        Kind kind = kind(name);
        Message message = read(where, kind, bytes, version);
        if (message != null) {
            same(where + ": written again", bytes, write(message, version));
            json(where, kind, message, version, bytes, json, records);
            if (tagged != null) {
                Message other = read(where + " with unknown tags", kind, tagged, version);
                same(where + " with unknown tags", tagged, write(other, version));
                count("instances with unknown tagged fields");
            }
        }
        count("instances read and written by Kafka");
        for (int left = in.readShort(); left > 0; left--) {
            short target = in.readShort();
            byte[] expected = bytes();
            if (message != null) {
                same(where + " written as v" + target, expected, write(message, target));
                count(expected == null ? "values refused in another version" : "values carried in some version");
            }
        }
    }

    private void json(String where, Kind kind, Message message, short version, byte[] bytes, String json,
                      boolean records) throws Exception {
        same(where + ": JSON", json, kind.toJson.invoke(null, message, version).toString());
        count("JSON texts");
        if (!records) {
            Message back = (Message) kind.fromJson.invoke(null, mapper.readTree(json), version);
            same(where + ": read from JSON", bytes, write(back, version));
            count("instances read from our JSON");
        }
    }

    private void defaults() throws Exception {
        text();
        String name = text();
        short version = in.readShort();
        byte[] ours = bytes();
        byte[] theirs = write(kind(name).fresh(), version);
        same(name + " v" + version + ": defaults", ours, theirs);
        count("messages of defaults");
    }

    private void framed() throws Exception {
        String group = text();
        String name = text();
        short version = in.readShort();
        byte[] bytes = bytes();
        String where = name + " v" + version + " framed";
        AbstractApiMessageSerde serde = group.equals("records-metadata") ? MetadataRecordSerde.INSTANCE : remoteLog();
        ApiMessageAndVersion record = serde.read(new ByteBufferAccessor(ByteBuffer.wrap(bytes)), bytes.length);
        same(where + ": class", name, record.message().getClass().getSimpleName());
        same(where + ": version", version, record.version());
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer buffer = ByteBuffer.allocate(serde.recordSize(record, cache));
        serde.write(record, cache, new ByteBufferAccessor(buffer));
        same(where, bytes, buffer.array());
        count("framed records");
    }

    private static AbstractApiMessageSerde remoteLog() {
        return new AbstractApiMessageSerde() {
            @Override
            public ApiMessage apiMessageFor(short key) {
                return org.apache.kafka.server.log.remote.metadata.storage.generated.MetadataRecordType
                    .fromId(key).newMetadataRecord();
            }
        };
    }

    private void coordinator() throws Exception {
        String group = text();
        String name = text();
        short version = in.readShort();
        byte[] key = bytes();
        byte[] value = bytes();
        CoordinatorRecordSerde serde;
        switch (group) {
            case "records-group-coordinator": serde = new GroupCoordinatorRecordSerde(); break;
            case "records-share-coordinator": serde = new ShareCoordinatorRecordSerde(); break;
            default: serde = new TransactionCoordinatorRecordSerde();
        }
        String where = name + " v" + version + " as a record";
        CoordinatorRecord record = serde.deserialize(ByteBuffer.wrap(key), ByteBuffer.wrap(value));
        same(where + ": value's class", name, record.value().message().getClass().getSimpleName());
        same(where + ": key's class", name.replace("Value", "Key"), record.key().getClass().getSimpleName());
        same(where + ": version", version, record.value().version());
        same(where + ": key", key, serde.serializeKey(record));
        same(where + ": value", value, serde.serializeValue(record));
        count("coordinator records");
    }

    private void api() throws Exception {
        int code = in.readShort();
        ApiKeys api = ApiKeys.forId(code);
        String where = "API " + api;
        apis.add(code);
        same(where + ": name", text(), api.name);
        short low = in.readShort();
        same(where + ": oldest", low, api.messageType.lowestSupportedVersion());
        same(where + ": latest", in.readShort(), api.latestVersion(false));
        short high = in.readShort();
        same(where + ": latest unstable", high, api.latestVersion(true));
        same(where + ": broker", in.readBoolean(), api.inScope(ApiMessageType.ListenerType.BROKER));
        same(where + ": controller", in.readBoolean(), api.inScope(ApiMessageType.ListenerType.CONTROLLER));
        for (short version = low; version <= high; version++) {
            same(where + ": request header", in.readShort(), api.requestHeaderVersion(version));
            same(where + ": response header", in.readShort(), api.responseHeaderVersion(version));
        }
        count("rows of the API table");
    }

    private void error() throws Exception {
        short code = in.readShort();
        Errors error = Errors.forCode(code);
        errors.add((int) code);
        same("error " + code, text(), error.name());
        same("error " + error + ": retriable", in.readBoolean(), error.exception() instanceof RetriableException);
        count("rows of the error table");
    }

    /** What we do not know at all. */
    private void finish() {
        for (ApiKeys api : ApiKeys.values()) {
            if (api.hasValidVersion() && !apis.contains((int) api.id)) {
                differ("API " + api, "unknown", api.id);
            }
        }
        for (Errors error : Errors.values()) {
            if (!errors.contains((int) error.code())) {
                differ("error " + error, "unknown", error.code());
            }
        }
    }
}
