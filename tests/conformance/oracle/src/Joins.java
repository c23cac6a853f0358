import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.Map;
import java.util.function.Function;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.KeyValueMapper;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.ValueJoiner;
import org.apache.kafka.streams.kstream.ValueJoinerWithKey;

/** Joins: the sides say which. */
final class Joins {
    private final Graph graph;
    private final JsonNode table;
    private final String left;
    private final String right;
    private final String kind;
    private final Map<String, Cel> select;

    private Joins(Graph graph, JsonNode table) {
        this.graph = graph;
        this.table = table;
        left = table.get("left").asText();
        right = table.get("right").asText();
        kind = table.path("kind").asText("inner");
        select = Roots.fields(table.get("select"));
    }

    static Object of(Graph graph, JsonNode table) {
        Joins join = new Joins(graph, table);
        if (graph.isGlobalTable(join.right)) {
            return join.streamWithGlobalTable();
        }
        if (!graph.isTable(join.right)) {
            return join.streams();
        }
        if (!graph.isTable(join.left)) {
            return join.streamWithTable();
        }
        return table.has("foreign_key") ? join.tablesByForeignKey() : join.tables();
    }

    private Row joined(Object key, Row leftRow, Row rightRow) {
        Map<String, Object> fields = Roots.evaluate(select, Roots.pair(key, leftRow, rightRow));
        return new Row(fields, leftRow == null ? null : leftRow.window());
    }

    /** The DSL does not tell joins of tables which key they are at. */
    private Row joinedWithoutKey(Row leftRow, Row rightRow) {
        return Row.of(Roots.evaluate(select, Roots.pair(leftRow, rightRow)));
    }

    private KStream<Object, Row> streamWithTable() {
        KStream<Object, Row> rows = graph.streamByBaseKey(left);
        ValueJoinerWithKey<Object, Row, Row, Row> joiner = this::joined;
        Joined<Object, Row, Row> joined = Joined.with(Graph.KEYS, Graph.ROWS, Graph.ROWS);
        if (table.has("grace")) {
            joined = joined.withGracePeriod(Times.parse(table.get("grace")));
        }
        return switch (kind) {
            case "inner" -> rows.join(graph.table(right), joiner, joined);
            case "left" -> rows.leftJoin(graph.table(right), joiner, joined);
            default -> throw unknownKind();
        };
    }

    private KStream<Object, Row> streamWithGlobalTable() {
        KStream<Object, Row> rows = graph.streamByBaseKey(left);
        Cel lookUp = Cel.of(table.get("key").asText());
        // The DSL asks for the key of a row without a value, too, before it drops it.
        KeyValueMapper<Object, Row, Object> keyOf = (key, row) -> row == null ? null : lookUp.eval(Roots.pair(key, row, null));
        ValueJoinerWithKey<Object, Row, Row, Row> joiner = this::joined;
        return switch (kind) {
            case "inner" -> rows.join(graph.globalTable(right), keyOf, joiner);
            case "left" -> rows.leftJoin(graph.globalTable(right), keyOf, joiner);
            default -> throw unknownKind();
        };
    }

    private KStream<Object, Row> streams() {
        KStream<Object, Row> leftRows = graph.streamByBaseKey(left);
        KStream<Object, Row> rightRows = left.equals(right) ? leftRows : graph.streamByBaseKey(right);
        JsonNode window = table.get("window");
        Duration before = Times.parse(window.get("before"));
        Duration after = Times.parse(window.get("after"));
        // Each side of the window is set by its own call; the length given first is of no account then.
        JoinWindows windows =
            JoinWindows.ofTimeDifferenceAndGrace(before, Times.parse(window.get("grace"))).before(before).after(after);
        ValueJoinerWithKey<Object, Row, Row, Row> joiner = this::joined;
        StreamJoined<Object, Row, Row> stores = StreamJoined.with(Graph.KEYS, Graph.ROWS, Graph.ROWS);
        return switch (kind) {
            case "inner" -> leftRows.join(rightRows, joiner, windows, stores);
            case "left" -> leftRows.leftJoin(rightRows, joiner, windows, stores);
            case "outer" -> leftRows.outerJoin(rightRows, joiner, windows, stores);
            default -> throw unknownKind();
        };
    }

    private KTable<Object, Row> tables() {
        KTable<Object, Row> leftRows = graph.table(left);
        KTable<Object, Row> rightRows = graph.table(right);
        ValueJoiner<Row, Row, Row> joiner = this::joinedWithoutKey;
        return switch (kind) {
            case "inner" -> leftRows.join(rightRows, joiner);
            case "left" -> leftRows.leftJoin(rightRows, joiner);
            case "outer" -> leftRows.outerJoin(rightRows, joiner);
            default -> throw unknownKind();
        };
    }

    private KTable<Object, Row> tablesByForeignKey() {
        KTable<Object, Row> leftRows = graph.table(left);
        Cel foreignKey = Cel.of(table.get("foreign_key").asText());
        ValueJoiner<Row, Row, Row> joiner = this::joinedWithoutKey;
        Function<Row, Object> keyOf = row -> foreignKey.eval(Roots.pair(row, null));
        return switch (kind) {
            case "inner" -> leftRows.join(graph.table(right), keyOf, joiner);
            case "left" -> leftRows.leftJoin(graph.table(right), keyOf, joiner);
            default -> throw unknownKind();
        };
    }

    private IllegalArgumentException unknownKind() {
        return new IllegalArgumentException("a join of these sides has no kind `" + kind + "`");
    }
}
