import com.fasterxml.jackson.databind.JsonNode;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;

/** A topology file as Kafka Streams' DSL: makes each node when it is first named. */
final class Graph {
    static final Codec.Keys KEYS = new Codec.Keys();
    static final Codec.Rows ROWS = new Codec.Rows();

    /** A topic that a node reads; without a schema its rows are single values. */
    record Source(JsonNode schema, boolean longKeys) {}

    final StreamsBuilder builder = new StreamsBuilder();
    final Schemas schemas;
    final Map<String, Source> sources = new HashMap<>();
    private final JsonNode spec;
    private final Map<String, Object> made = new HashMap<>();
    private final Map<String, JsonNode> branches = new LinkedHashMap<>();

    /** A node's table, and its kind. */
    private record Node(String kind, JsonNode table) {}

    Graph(JsonNode spec, Schemas schemas) {
        this.spec = spec;
        this.schemas = schemas;
        for (JsonNode branch : spec.path("branch")) {
            branch.get("case").forEach(one -> branches.put(one.get("name").asText(), branch));
        }
    }

    /** Makes everything that sinks ask for. */
    void build(List<Output> outputs) {
        for (JsonNode sink : spec.get("sink")) {
            String topic = sink.get("topic").asText();
            stream(sink.get("from").asText()).process(() -> new Tap(topic, outputs));
        }
    }

    /** The rows of a node; of a table, its changes. */
    @SuppressWarnings("unchecked")
    KStream<Object, Row> stream(String name) {
        Object node = node(name);
        return node instanceof KTable<?, ?> ? ((KTable<Object, Row>) node).toStream() : (KStream<Object, Row>) node;
    }

    /** The rows of a node by their base keys: windowed rows have their window beside them. */
    KStream<Object, Row> streamByBaseKey(String name) {
        KStream<Object, Row> rows = stream(name);
        if (!windowed(name)) {
            return rows;
        }
        return rows.mapValues((key, row) -> row == null ? null : new Row(row.fields(), Row.windowOf(key, row)))
            .selectKey((key, row) -> Row.baseKey(key));
    }

    @SuppressWarnings("unchecked")
    KTable<Object, Row> table(String name) {
        return (KTable<Object, Row>) node(name);
    }

    @SuppressWarnings("unchecked")
    GlobalKTable<Object, Row> globalTable(String name) {
        return (GlobalKTable<Object, Row>) node(name);
    }

    boolean isTable(String name) {
        return node(name) instanceof KTable;
    }

    boolean isGlobalTable(String name) {
        return node(name) instanceof GlobalKTable;
    }

    private Object node(String name) {
        if (!made.containsKey(name)) {
            if (branches.containsKey(name)) {
                made.putAll(Streams.branch(this, branches.get(name)));
            } else {
                Node node = find(name);
                made.put(name, make(name, node.kind(), node.table()));
            }
        }
        return made.get(name);
    }

    private Node find(String name) {
        for (String kind : List.of("stream", "table", "global_table", "merge", "aggregate", "join", "suppress", "log", "punctuate")) {
            if (spec.path(kind).has(name)) {
                return new Node(kind, spec.get(kind).get(name));
            }
        }
        throw new IllegalArgumentException("there is no node `" + name + "`");
    }

    private Object make(String name, String kind, JsonNode table) {
        return switch (kind) {
            case "stream" -> table.has("topic") ? Streams.source(this, table) : Streams.derived(this, table);
            case "table" -> table.has("topic") ? Tables.source(this, name, table) : Tables.derived(this, name, table);
            case "global_table" -> Tables.global(this, name, table);
            case "merge" -> Streams.merge(this, table);
            case "aggregate" -> isTable(table.get("from").asText()) && !windowed(table.get("from").asText())
                ? Aggregates.ofTable(this, name, table)
                : Aggregates.ofStream(this, name, table);
            case "join" -> Joins.of(this, table);
            case "punctuate" -> Punctuations.of(this, table);
            case "log" -> stream(table.get("from").asText()).peek((key, row) -> {});
            default -> Tables.suppressed(this, table);
        };
    }

    /** Tells whether the rows of a node have windowed keys. */
    private boolean windowed(String name) {
        if (branches.containsKey(name)) {
            return windowed(branches.get(name).get("from").asText());
        }
        Node node = find(name);
        return switch (node.kind()) {
            case "aggregate" -> node.table().has("window");
            case "stream" -> node.table().has("from") && !node.table().has("select_key") && windowed(node.table().get("from").asText());
            case "suppress" -> windowed(node.table().get("from").asText());
            case "merge" -> windowed(node.table().get("from").get(0).asText());
            default -> false;
        };
    }
}
