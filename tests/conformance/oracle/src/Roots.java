import com.fasterxml.jackson.databind.JsonNode;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;

/** What expressions are given: the names they begin with. */
final class Roots {
    private Roots() {}

    /** A row under its key, {@code value}, {@code key} and, where there is one, {@code window}. */
    static Map<String, Object> row(Object key, Row value) {
        Map<String, Object> roots = new LinkedHashMap<>();
        roots.put("value", value == null ? null : value.value());
        place(roots, key, Row.windowOf(key, value));
        return roots;
    }

    /** Two rows that meet; a side that is not there is null. */
    static Map<String, Object> pair(Row left, Row right) {
        Map<String, Object> roots = new LinkedHashMap<>();
        roots.put("left", left == null ? null : left.fields());
        roots.put("right", right == null ? null : right.fields());
        return roots;
    }

    static Map<String, Object> pair(Object key, Row left, Row right) {
        Map<String, Object> roots = pair(left, right);
        place(roots, key, Row.windowOf(key, left));
        return roots;
    }

    static Map<String, Object> at(Map<String, Object> roots, long timestamp) {
        roots.put("meta", Map.of("timestamp", Instant.ofEpochMilli(timestamp)));
        return roots;
    }

    private static void place(Map<String, Object> roots, Object key, Row.Span window) {
        roots.put("key", Row.baseKey(key));
        if (window != null) {
            roots.put("window", Map.of("start", Instant.ofEpochMilli(window.start()), "end", Instant.ofEpochMilli(window.end())));
        }
    }

    /** Fields with an expression each, as in {@code select}: in the order of their names, so that equal rows have equal bytes. */
    static Map<String, Cel> fields(JsonNode table) {
        Map<String, Cel> fields = new TreeMap<>();
        table.properties().forEach(field -> fields.put(field.getKey(), Cel.of(field.getValue().asText())));
        return fields;
    }

    static Map<String, Object> evaluate(Map<String, Cel> fields, Map<String, Object> roots) {
        Map<String, Object> values = new TreeMap<>();
        fields.forEach((name, expression) -> values.put(name, expression.eval(roots)));
        return values;
    }
}
