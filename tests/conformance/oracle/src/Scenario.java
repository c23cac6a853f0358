import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.dataformat.toml.TomlMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.TestInputTopic;
import org.apache.kafka.streams.TopologyTestDriver;
import org.apache.kafka.streams.test.TestRecord;

/** A file with a topology and its input, run by Kafka Streams' test driver: one record at a time, the clock stands still. */
final class Scenario {
    private static final TomlMapper TOML = new TomlMapper();

    private final JsonNode file;
    private final Schemas schemas;

    private Scenario(JsonNode file, Schemas schemas) {
        this.file = file;
        this.schemas = schemas;
    }

    static Scenario read(Path file, Schemas schemas) throws IOException {
        return new Scenario(TOML.readTree(file.toFile()), schemas);
    }

    List<Output> run(Path stateFolder) {
        Graph graph = new Graph(file, schemas);
        List<Output> outputs = new ArrayList<>();
        graph.build(outputs);
        try (TopologyTestDriver driver = new TopologyTestDriver(graph.builder.build(), config(stateFolder), Instant.EPOCH)) {
            for (JsonNode event : file.get("scenario").get("input")) {
                feed(driver, graph, event);
            }
        }
        return outputs;
    }

    private static void feed(TopologyTestDriver driver, Graph graph, JsonNode event) {
        if (event.has("wall_clock")) {
            driver.advanceWallClockTime(Times.parse(event.get("wall_clock")));
            return;
        }
        String topic = event.get("topic").asText();
        Graph.Source source = graph.sources.get(topic);
        if (source == null) {
            throw new IllegalArgumentException("nothing reads the topic `" + topic + "`");
        }
        TestInputTopic<Object, Row> input =
            driver.createInputTopic(topic, Graph.KEYS.serializer(), Graph.ROWS.serializer(), Instant.EPOCH, Duration.ZERO);
        JsonNode key = event.get("key");
        Object keyValue = key == null ? null : source.longKeys() ? (Object) key.longValue() : key.textValue();
        Row row = event.has("value") ? row(source, event.get("value")) : null;
        input.pipeInput(new TestRecord<>(keyValue, row, Instant.ofEpochMilli(event.get("at").longValue())));
    }

    private static Row row(Graph.Source source, JsonNode value) {
        if (source.schema() != null) {
            return Schemas.row(source.schema(), value);
        }
        return Row.single(value.isTextual() ? value.textValue() : value.isIntegralNumber() ? (Object) value.longValue() : (Object) value.doubleValue());
    }

    private static Properties config(Path stateFolder) {
        Properties config = new Properties();
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, "oracle");
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, "none:1");
        config.put(StreamsConfig.STATE_DIR_CONFIG, stateFolder.toString());
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
        config.put(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, StreamsConfig.NO_OPTIMIZATION);
        config.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        config.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Codec.Keys.class);
        config.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Codec.Rows.class);
        // Results that wait for the wall clock would hide when they are due.
        config.put(StreamsConfig.InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_OUTER_JOIN_SPURIOUS_RESULTS_FIX, 0L);
        config.put(StreamsConfig.InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_WINDOWED_AGGREGATION, 0L);
        return config;
    }
}
