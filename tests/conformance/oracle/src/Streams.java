import com.fasterxml.jackson.databind.JsonNode;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.Branched;
import org.apache.kafka.streams.kstream.BranchedKStream;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.processor.TimestampExtractor;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;

/**
 * Streams of topics and of streams, branches and merges. A null value, which the DSL hands to the user's functions, passes filters
 * and mappings untouched, and has no new key.
 */
final class Streams {
    private Streams() {}

    static KStream<Object, Row> source(Graph graph, JsonNode table) {
        return graph.builder.stream(table.get("topic").asText(), consumed(graph, table));
    }

    static Consumed<Object, Row> consumed(Graph graph, JsonNode table) {
        boolean longKeys = table.path("key_format").asText("string").equals("long");
        JsonNode schema = table.has("schemas") ? graph.schemas.read(table.get("schemas").get(0).asText()) : null;
        graph.sources.put(table.get("topic").asText(), new Graph.Source(schema, longKeys));
        Consumed<Object, Row> consumed = Consumed.with(Graph.KEYS, Graph.ROWS);
        return table.has("timestamp") ? consumed.withTimestampExtractor(timestamp(Cel.of(table.get("timestamp").asText()))) : consumed;
    }

    private static TimestampExtractor timestamp(Cel expression) {
        return (record, partitionTime) -> {
            if (record.value() == null) {
                return record.timestamp();
            }
            Map<String, Object> roots = Roots.at(Roots.row(record.key(), (Row) record.value()), record.timestamp());
            Object time = expression.eval(roots);
            return time instanceof Instant moment ? moment.toEpochMilli() : (Long) time;
        };
    }

    static KStream<Object, Row> derived(Graph graph, JsonNode table) {
        KStream<Object, Row> rows = graph.stream(table.get("from").asText());
        if (table.toString().contains("meta.")) {
            return rows.process(() -> new Derive(table));
        }
        if (table.has("where")) {
            Cel where = Cel.of(table.get("where").asText());
            rows = rows.filter((key, row) -> row == null || where.test(Roots.row(key, row)));
        }
        Shape shape = Shape.of(table);
        if (table.has("flatten")) {
            return flattened(rows, table, shape);
        }
        if (table.has("select_key")) {
            Cel newKey = Cel.of(table.get("select_key").asText());
            rows = rows.filter((key, row) -> row != null);
            // One step: both expressions are over the row as it comes in.
            return shape == null
                ? rows.selectKey((key, row) -> newKey.eval(Roots.row(key, row)))
                : rows.map((key, row) -> KeyValue.pair(newKey.eval(Roots.row(key, row)), shape.apply(row, Roots.row(key, row))));
        }
        return shape == null ? rows : rows.mapValues((key, row) -> shape.apply(row, Roots.row(key, row)));
    }

    /** A row for each element of a list: expressions see the row and {@code item}. Of no value there are no elements. */
    private static KStream<Object, Row> flattened(KStream<Object, Row> rows, JsonNode table, Shape shape) {
        Cel list = Cel.of(table.get("flatten").asText());
        Cel newKey = table.has("select_key") ? Cel.of(table.get("select_key").asText()) : null;
        return rows.filter((key, row) -> row != null).flatMap((key, row) -> {
            List<KeyValue<Object, Row>> made = new ArrayList<>();
            for (Object item : (List<?>) list.eval(Roots.row(key, row))) {
                Map<String, Object> roots = Roots.row(key, row);
                roots.put("item", item);
                Row element = shape == null ? element(item, row) : shape.apply(row, roots);
                made.add(KeyValue.pair(newKey == null ? key : newKey.eval(roots), element));
            }
            return made;
        });
    }

    @SuppressWarnings("unchecked")
    private static Row element(Object item, Row of) {
        return new Row(item instanceof Map<?, ?> fields ? (Map<String, Object>) fields : Map.of("value", item), of.window());
    }

    static Map<String, Object> branch(Graph graph, JsonNode branch) {
        BranchedKStream<Object, Row> split = graph.stream(branch.get("from").asText()).split();
        Map<String, Object> cases = new HashMap<>();
        for (JsonNode one : branch.get("case")) {
            String name = one.get("name").asText();
            Branched<Object, Row> into = Branched.withConsumer(rows -> cases.put(name, rows));
            if (one.has("where")) {
                Cel where = Cel.of(one.get("where").asText());
                split = split.branch((key, row) -> where.test(Roots.row(key, row)), into);
            } else {
                split.defaultBranch(into);
            }
        }
        return cases;
    }

    static KStream<Object, Row> merge(Graph graph, JsonNode table) {
        List<KStream<Object, Row>> inputs = new ArrayList<>();
        table.get("from").forEach(name -> inputs.add(graph.stream(name.asText())));
        return inputs.stream().reduce(KStream::merge).orElseThrow();
    }

    /** {@code select} gives the whole row, {@code set} changes fields. */
    record Shape(boolean whole, Map<String, Cel> fields) {
        static Shape of(JsonNode table) {
            if (table.has("select")) {
                return new Shape(true, Roots.fields(table.get("select")));
            }
            return table.has("set") ? new Shape(false, Roots.fields(table.get("set"))) : null;
        }

        Row apply(Row row, Map<String, Object> roots) {
            if (row == null) {
                return null;
            }
            Map<String, Object> made = whole ? new TreeMap<>() : new TreeMap<>(row.fields());
            made.putAll(Roots.evaluate(fields, roots));
            return new Row(made, row.window());
        }
    }

    /** A derived stream whose expressions ask for {@code meta}, which the DSL's functions do not see. */
    private static final class Derive extends ContextualProcessor<Object, Row, Object, Row> {
        private final Cel where;
        private final Cel newKey;
        private final Shape shape;

        Derive(JsonNode table) {
            where = table.has("where") ? Cel.of(table.get("where").asText()) : null;
            newKey = table.has("select_key") ? Cel.of(table.get("select_key").asText()) : null;
            shape = Shape.of(table);
        }

        @Override
        public void process(Record<Object, Row> record) {
            Row row = record.value();
            Map<String, Object> roots = Roots.at(Roots.row(record.key(), row), record.timestamp());
            if (row == null ? newKey != null : where != null && !where.test(roots)) {
                return;
            }
            Object key = newKey == null ? record.key() : newKey.eval(roots);
            context().forward(record.withKey(key).withValue(shape == null ? row : shape.apply(row, roots)));
        }
    }
}
