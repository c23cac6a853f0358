import com.fasterxml.jackson.databind.JsonNode;
import java.util.Map;
import java.util.TreeMap;

/** What an aggregate does with rows: its state is a row, its result another. */
interface Fold {
    Row initial();

    Row add(Object key, Row value, Row state);

    /** The state of rows that have gone from the table that is aggregated. */
    default Row subtract(Object key, Row value, Row state) {
        throw new IllegalArgumentException("only functions of `select` can be undone");
    }

    /** The state of two sessions that a row brings together, the earlier one first. */
    default Row merge(Row earlier, Row later) {
        throw new IllegalArgumentException("only functions of `select` can be merged");
    }

    default Row result(Row state) {
        return state;
    }

    static Fold of(JsonNode table) {
        return table.has("fold") ? new Custom(table.get("fold")) : new Functions(table.get("select"));
    }

    /** Fields with an initial value and an update each; all updates see the state as it was before the row. */
    final class Custom implements Fold {
        private final Map<String, Cel> initial = new TreeMap<>();
        private final Map<String, Cel> update = new TreeMap<>();
        private final Map<String, Cel> merge = new TreeMap<>();
        private final Map<String, Cel> retract = new TreeMap<>();

        Custom(JsonNode fields) {
            fields.properties().forEach(field -> {
                initial.put(field.getKey(), Cel.of(field.getValue().get("initial").asText()));
                update.put(field.getKey(), Cel.of(field.getValue().get("update").asText()));
                if (field.getValue().has("merge")) {
                    merge.put(field.getKey(), Cel.of(field.getValue().get("merge").asText()));
                }
                if (field.getValue().has("retract")) {
                    retract.put(field.getKey(), Cel.of(field.getValue().get("retract").asText()));
                }
            });
        }

        @Override
        public Row initial() {
            return Row.of(Roots.evaluate(initial, Map.of()));
        }

        @Override
        public Row add(Object key, Row value, Row state) {
            Map<String, Object> roots = Roots.row(key, value);
            roots.put("state", state.fields());
            return Row.of(Roots.evaluate(update, roots));
        }

        @Override
        public Row subtract(Object key, Row value, Row state) {
            Map<String, Object> roots = Roots.row(key, value);
            roots.put("state", state.fields());
            return Row.of(Roots.evaluate(retract, roots));
        }

        @Override
        public Row merge(Row earlier, Row later) {
            return Row.of(Roots.evaluate(merge, Map.of("state", earlier.fields(), "other", later.fields())));
        }
    }
}
