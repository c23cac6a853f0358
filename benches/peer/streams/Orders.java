import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Properties;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * topology/orders.toml as a Kafka Streams application: orders over 10, counted and summed per customer, new totals to a topic.
 *
 * <p>Arguments: schema files of order and total, input and output topic, the registry's id of the total's schema, then
 * Kafka Streams properties as name=value. Runs until SIGTERM. Values are framed as the Confluent serializers frame them;
 * Avro's readers, writers, decoders and buffers are made once and used again.
 */
public final class Orders {
    public static void main(String[] args) throws Exception {
        Schema order = new Schema.Parser().parse(new File(args[0]));
        Schema total = new Schema.Parser().parse(new File(args[1]));
        String input = args[2];
        String output = args[3];
        int totalId = Integer.parseInt(args[4]);
        Properties properties = new Properties();
        for (int i = 5; i < args.length; i++) {
            int equals = args[i].indexOf('=');
            properties.put(args[i].substring(0, equals), args[i].substring(equals + 1));
        }

        Serde<GenericRecord> orders = new Framed(order, 0);
        Serde<GenericRecord> totals = new Framed(total, totalId);
        int amount = order.getField("amount").pos();
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(input, Consumed.with(Serdes.String(), orders))
            .filter((customer, value) -> (double) value.get(amount) > 10.0)
            .groupByKey(Grouped.with(Serdes.String(), orders))
            .aggregate(
                () -> total(total, 0L, 0.0),
                (customer, value, sum) -> total(total, (long) sum.get(0) + 1, (double) sum.get(1) + (double) value.get(amount)),
                Materialized.<String, GenericRecord, KeyValueStore<Bytes, byte[]>>as("totals")
                    .withKeySerde(Serdes.String())
                    .withValueSerde(totals))
            .toStream()
            .to(output, Produced.with(Serdes.String(), totals));

        KafkaStreams streams = new KafkaStreams(builder.build(), properties);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(30))));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();
        Thread.currentThread().join();
    }

    private static GenericRecord total(Schema schema, long orders, double amount) {
        GenericData.Record record = new GenericData.Record(schema);
        record.put(0, orders);
        record.put(1, amount);
        return record;
    }

    /** Avro behind a zero byte and the schema's id. The id of what is read is not looked at: there is one schema. Stream threads share it. */
    private static final class Framed implements Serde<GenericRecord>, Serializer<GenericRecord>, Deserializer<GenericRecord> {
        private final ThreadLocal<Codec> codec;

        Framed(Schema schema, int id) {
            codec = ThreadLocal.withInitial(() -> new Codec(schema, id));
        }

        @Override
        public Serializer<GenericRecord> serializer() {
            return this;
        }

        @Override
        public Deserializer<GenericRecord> deserializer() {
            return this;
        }

        @Override
        public void configure(java.util.Map<String, ?> configs, boolean isKey) {}

        @Override
        public void close() {}

        @Override
        public byte[] serialize(String topic, GenericRecord record) {
            return record == null ? null : codec.get().encode(record);
        }

        @Override
        public GenericRecord deserialize(String topic, byte[] bytes) {
            return bytes == null ? null : codec.get().decode(bytes);
        }
    }

    /** What one thread encodes and decodes with. */
    private static final class Codec {
        private final int id;
        private final GenericDatumReader<GenericRecord> reader;
        private final GenericDatumWriter<GenericRecord> writer;
        private final ByteArrayOutputStream buffer = new ByteArrayOutputStream();
        private BinaryDecoder decoder;
        private BinaryEncoder encoder;

        Codec(Schema schema, int id) {
            this.id = id;
            reader = new GenericDatumReader<>(schema);
            writer = new GenericDatumWriter<>(schema);
        }

        byte[] encode(GenericRecord record) {
            try {
                buffer.reset();
                buffer.write(0);
                buffer.write(ByteBuffer.allocate(4).putInt(id).array());
                encoder = EncoderFactory.get().directBinaryEncoder(buffer, encoder);
                writer.write(record, encoder);
                return buffer.toByteArray();
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        GenericRecord decode(byte[] bytes) {
            try {
                decoder = DecoderFactory.get().binaryDecoder(bytes, 5, bytes.length - 5, decoder);
                return reader.read(null, decoder);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }
}
