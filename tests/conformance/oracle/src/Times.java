import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Lengths of time as topologies write them: {@code 10ms}, {@code 1h}. */
final class Times {
    private static final Pattern FORM = Pattern.compile("(\\d+)(ms|s|m|h|d)");

    private Times() {}

    static Duration parse(JsonNode text) {
        Matcher form = FORM.matcher(text.asText());
        if (!form.matches()) {
            throw new IllegalArgumentException("`" + text + "` is no length of time");
        }
        long number = Long.parseLong(form.group(1));
        return switch (form.group(2)) {
            case "ms" -> Duration.ofMillis(number);
            case "s" -> Duration.ofSeconds(number);
            case "m" -> Duration.ofMinutes(number);
            case "h" -> Duration.ofHours(number);
            default -> Duration.ofDays(number);
        };
    }
}
