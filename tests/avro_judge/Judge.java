import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import org.apache.avro.Schema;
import org.apache.avro.SchemaCompatibility;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

/**
 * Java Avro as the judge of schema resolution.
 *
 * <p>Reads a JSON object a line, {@code {"writer": schema, "reader": schema, "data": ["hex", …]}}, and answers each with a line:
 * {@code {"schema_error": "…"}}, or {@code {"compatible": …, "data": […]}} with Avro's word on whether the reader can read all that the
 * writer may write, and an object for each datum: {@code {"hex": …, "shown": …}}, the datum as the reader sees it, written with the
 * reader's schema (and as text), or {@code {"error": "…"}}. Bytes left over are an error.
 */
public final class Judge {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] args) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream answers = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (String line; (line = lines.readLine()) != null; ) {
            answers.println(JSON.writeValueAsString(judge(JSON.readTree(line))));
        }
        answers.flush();
    }

    private static ObjectNode judge(JsonNode question) {
        ObjectNode answer = JSON.createObjectNode();
        Schema writer;
        Schema reader;
        try {
            writer = new Schema.Parser().parse(question.get("writer").toString());
            reader = new Schema.Parser().parse(question.get("reader").toString());
        } catch (RuntimeException e) {
            return answer.put("schema_error", String.valueOf(e));
        }
        answer.put("compatible", SchemaCompatibility.checkReaderWriterCompatibility(reader, writer).getType()
            == SchemaCompatibility.SchemaCompatibilityType.COMPATIBLE);
        for (JsonNode hex : question.get("data")) {
            answer.withArray("/data").add(resolve(writer, reader, HexFormat.of().parseHex(hex.asText())));
        }
        return answer;
    }

    private static ObjectNode resolve(Schema writer, Schema reader, byte[] bytes) {
        ObjectNode answer = JSON.createObjectNode();
        try {
            BinaryDecoder decoder = DecoderFactory.get().binaryDecoder(bytes, null);
            Object datum = new GenericDatumReader<>(writer, reader).read(null, decoder);
            if (!decoder.isEnd()) {
                return answer.put("error", "bytes are left over");
            }
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(out, null);
            new GenericDatumWriter<>(reader).write(datum, encoder);
            encoder.flush();
            return answer.put("hex", HexFormat.of().formatHex(out.toByteArray())).put("shown", String.valueOf(datum));
        } catch (Exception | StackOverflowError e) {
            return answer.put("error", String.valueOf(e));
        }
    }
}
