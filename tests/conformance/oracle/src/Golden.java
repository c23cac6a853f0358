import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/** Outputs as JSON. */
final class Golden {
    private static final ObjectMapper JSON = new ObjectMapper();

    private Golden() {}

    /** An output a line, so that changes read well. */
    static String file(List<Output> outputs) {
        String lines = outputs.stream().map(output -> " " + object(output)).collect(Collectors.joining(",\n"));
        return lines.isEmpty() ? "{\"outputs\":[]}\n" : "{\"outputs\":[\n" + lines + "\n]}\n";
    }

    static String line(List<Output> outputs) {
        ArrayNode all = JSON.createArrayNode();
        outputs.forEach(output -> all.add(object(output)));
        return JSON.createObjectNode().set("outputs", all).toString();
    }

    static String failure(Throwable error) {
        return JSON.createObjectNode().put("error", String.valueOf(error)).toString();
    }

    private static ObjectNode object(Output output) {
        ObjectNode object = JSON.createObjectNode().put("topic", output.topic());
        object.set("key", JSON.valueToTree(output.key()));
        if (output.window() != null) {
            object.putArray("window").add(output.window().start()).add(output.window().end());
        }
        object.set("value", JSON.valueToTree(output.row() == null ? null : shown(output.row().fields())));
        return object.put("at", output.timestamp());
    }

    private static Object shown(Object value) {
        if (value instanceof Map<?, ?> fields) {
            Map<Object, Object> all = new LinkedHashMap<>();
            fields.forEach((name, field) -> all.put(name, shown(field)));
            return all;
        }
        if (value instanceof List<?> items) {
            return items.stream().map(Golden::shown).toList();
        }
        return value instanceof Instant moment ? moment.toString() : value;
    }
}
