import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serializer;

/**
 * Bytes of keys and rows. One value has one encoding, since foreign-key joins compare hashes of it; keys of one type sort as
 * Kafka's own serializers sort them, since the order of a store is the order of some results.
 */
public final class Codec {
    public static final class Keys implements Serde<Object> {
        @Override
        public Serializer<Object> serializer() {
            return (topic, key) -> key == null ? null : bytes(key);
        }

        @Override
        public Deserializer<Object> deserializer() {
            return (topic, bytes) -> bytes == null ? null : value(bytes);
        }
    }

    public static final class Rows implements Serde<Row> {
        @Override
        public Serializer<Row> serializer() {
            return (topic, row) -> row == null ? null : bytes(pack(row));
        }

        @Override
        @SuppressWarnings("unchecked")
        public Deserializer<Row> deserializer() {
            return (topic, bytes) -> bytes == null ? null : unpack((List<Object>) value(bytes));
        }

        private static List<Object> pack(Row row) {
            Row.Span window = row.window();
            return window == null ? List.of(row.fields()) : List.of(row.fields(), window.start(), window.end());
        }

        @SuppressWarnings("unchecked")
        private static Row unpack(List<Object> packed) {
            Map<String, Object> fields = (Map<String, Object>) packed.get(0);
            return new Row(fields, packed.size() == 1 ? null : new Row.Span((Long) packed.get(1), (Long) packed.get(2)));
        }
    }

    private Codec() {}

    private static byte[] bytes(Object value) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try {
            write(value, new DataOutputStream(bytes));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return bytes.toByteArray();
    }

    private static Object value(byte[] bytes) {
        try {
            return read(new DataInputStream(new ByteArrayInputStream(bytes)));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static void write(Object value, DataOutputStream out) throws IOException {
        if (value == null) {
            out.writeByte('0');
        } else if (value instanceof Long number) {
            out.writeByte('l');
            out.writeLong(number);
        } else if (value instanceof Double number) {
            out.writeByte('d');
            out.writeDouble(number);
        } else if (value instanceof Boolean truth) {
            out.writeByte(truth ? 't' : 'f');
        } else if (value instanceof String text) {
            out.writeByte('s');
            out.write(text.getBytes(StandardCharsets.UTF_8));
            // Ends the text without a length in front, which would sort short keys first.
            out.writeByte(0);
        } else if (value instanceof Instant moment) {
            out.writeByte('i');
            out.writeLong(moment.toEpochMilli());
        } else if (value instanceof List<?> items) {
            out.writeByte('[');
            out.writeInt(items.size());
            for (Object item : items) {
                write(item, out);
            }
        } else if (value instanceof Map<?, ?> fields) {
            out.writeByte('{');
            out.writeInt(fields.size());
            for (Map.Entry<?, ?> field : fields.entrySet()) {
                write(field.getKey(), out);
                write(field.getValue(), out);
            }
        } else {
            throw new IllegalArgumentException("no encoding for " + value.getClass());
        }
    }

    private static Object read(DataInputStream in) throws IOException {
        char kind = (char) in.readByte();
        switch (kind) {
            case '0':
                return null;
            case 'l':
                return in.readLong();
            case 'd':
                return in.readDouble();
            case 't', 'f':
                return kind == 't';
            case 's':
                ByteArrayOutputStream text = new ByteArrayOutputStream();
                for (byte next; (next = in.readByte()) != 0; ) {
                    text.write(next);
                }
                return text.toString(StandardCharsets.UTF_8);
            case 'i':
                return Instant.ofEpochMilli(in.readLong());
            case '[':
                List<Object> items = new ArrayList<>();
                for (int left = in.readInt(); left > 0; left--) {
                    items.add(read(in));
                }
                return items;
            case '{':
                Map<String, Object> fields = new LinkedHashMap<>();
                for (int left = in.readInt(); left > 0; left--) {
                    fields.put((String) read(in), read(in));
                }
                return fields;
            default:
                throw new IOException("no value begins with '" + kind + "'");
        }
    }
}
