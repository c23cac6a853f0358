import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Avro schemas of the inputs: they say which numbers are doubles, and what a field is that a record leaves out. */
final class Schemas {
    private final Path folder;
    private final ObjectMapper json = new ObjectMapper();

    Schemas(Path folder) {
        this.folder = folder;
    }

    JsonNode read(String file) {
        try {
            return json.readTree(folder.resolve(file).toFile());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Reads a record's fields. */
    static Row row(JsonNode schema, JsonNode given) {
        return Row.of(record(schema, given));
    }

    private static Map<String, Object> record(JsonNode schema, JsonNode given) {
        Map<String, Object> fields = new TreeMap<>();
        for (JsonNode field : schema.get("fields")) {
            String name = field.get("name").asText();
            JsonNode value = given.has(name) ? given.get(name) : field.get("default");
            if (value == null) {
                throw new IllegalArgumentException("`" + name + "` is missing in " + given);
            }
            fields.put(name, value(field.get("type"), value));
        }
        given.fieldNames().forEachRemaining(name -> {
            if (!fields.containsKey(name)) {
                throw new IllegalArgumentException("`" + name + "` is not in the schema " + schema.get("name"));
            }
        });
        return fields;
    }

    private static Object value(JsonNode type, JsonNode given) {
        if (type.isArray()) {
            return given.isNull() ? null : value(type.get(0).asText().equals("null") ? type.get(1) : type.get(0), given);
        }
        String kind = type.isTextual() ? type.asText() : type.get("type").asText();
        return switch (kind) {
            case "long", "int" -> type.has("logicalType") ? moment(given) : (Object) given.longValue();
            case "double", "float" -> given.doubleValue();
            case "string", "enum" -> given.textValue();
            case "boolean" -> given.booleanValue();
            case "record" -> record(type, given);
            case "array" -> {
                List<Object> items = new ArrayList<>();
                given.forEach(item -> items.add(value(type.get("items"), item)));
                yield items;
            }
            default -> throw new IllegalArgumentException("`" + kind + "` is not for scenarios");
        };
    }

    private static Instant moment(JsonNode given) {
        return given.isTextual() ? Instant.parse(given.asText()) : Instant.ofEpochMilli(given.longValue());
    }
}
