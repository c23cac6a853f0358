import java.util.Map;
import org.apache.kafka.streams.kstream.Windowed;

/**
 * What streams and tables hold: fields by name. A value is a {@code Long}, {@code Double}, {@code String}, {@code Boolean},
 * {@code Instant}, {@code List}, {@code Map} or null.
 *
 * @param window the window of a row that has left its windowed key behind, else null
 */
record Row(Map<String, Object> fields, Span window) {
    /** A window by its ends in milliseconds, as Kafka Streams' {@code Window} gives them. */
    record Span(long start, long end) {}

    static Row of(Map<String, Object> fields) {
        return new Row(fields, null);
    }

    /** A row that is one value: it has no name. */
    static Row single(Object value) {
        return of(Map.of("", value));
    }

    /** What {@code value} stands for in expressions. */
    Object value() {
        return fields.containsKey("") ? fields.get("") : fields;
    }

    /** A row has its base key, also when it comes out of a window. */
    static Object baseKey(Object key) {
        return key instanceof Windowed<?> windowed ? windowed.key() : key;
    }

    /** The window of a row under this key; null when there is none. */
    static Span windowOf(Object key, Row row) {
        if (key instanceof Windowed<?> windowed) {
            return new Span(windowed.window().start(), windowed.window().end());
        }
        return row == null ? null : row.window;
    }
}
