import java.util.List;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;

/** Stands where a sink would: writes down rows in the order in which they are forwarded, with keys that are still windowed. */
final class Tap extends ContextualProcessor<Object, Row, Void, Void> {
    private final String topic;
    private final List<Output> outputs;

    Tap(String topic, List<Output> outputs) {
        this.topic = topic;
        this.outputs = outputs;
    }

    @Override
    public void process(Record<Object, Row> record) {
        Row.Span window = Row.windowOf(record.key(), record.value());
        outputs.add(new Output(topic, Row.baseKey(record.key()), record.value(), window, record.timestamp()));
    }
}
