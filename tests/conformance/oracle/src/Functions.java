import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/**
 * The functions of {@code select}. A function passes by rows in which its argument is null; {@code count()} takes all. A field's
 * state is the value of its function, but for {@code avg}: sum and count; null where no row had an argument.
 */
final class Functions implements Fold {
    private static final Set<String> NAMES =
        Set.of("count", "sum", "avg", "min", "max", "first", "last", "collect", "count_distinct");

    private record Call(String function, Cel argument) {}

    private final Map<String, Call> calls = new TreeMap<>();

    /** The state of these has every value of the rows that are there, since what goes must be taken out again. */
    private static final Set<String> OF_ALL_VALUES = Set.of("min", "max", "count_distinct");

    private final boolean keepsAll;

    Functions(JsonNode select) {
        this(select, false);
    }

    Functions(JsonNode select, boolean keepsAll) {
        this.keepsAll = keepsAll;
        Roots.fields(select).forEach((name, expression) -> {
            if (!NAMES.contains(expression.function())) {
                throw new IllegalArgumentException("there is no function `" + expression.function() + "`");
            }
            calls.put(name, new Call(expression.function(), expression.argument()));
        });
    }

    @Override
    public Row initial() {
        Map<String, Object> state = new TreeMap<>();
        calls.keySet().forEach(name -> state.put(name, null));
        return Row.of(state);
    }

    @Override
    public Row add(Object key, Row value, Row state) {
        return each(key, value, state, this::add);
    }

    @Override
    public Row subtract(Object key, Row value, Row state) {
        return each(key, value, state, this::subtract);
    }

    private interface Step {
        Object apply(String function, Object state, Object argument);
    }

    private Row each(Object key, Row value, Row state, Step step) {
        Map<String, Object> roots = Roots.row(key, value);
        Map<String, Object> next = new TreeMap<>(state.fields());
        calls.forEach((name, call) -> {
            Object argument = call.argument() == null ? 1L : value == null ? null : call.argument().eval(roots);
            if (argument != null) {
                next.put(name, step.apply(call.function(), state.fields().get(name), argument));
            }
        });
        return Row.of(next);
    }

    private Object add(String function, Object state, Object argument) {
        if (keepsAll && OF_ALL_VALUES.contains(function)) {
            return merge("collect", state, List.of(argument));
        }
        Object value = switch (function) {
            case "avg" -> List.of(((Number) argument).doubleValue(), 1L);
            case "collect", "count_distinct" -> List.of(argument);
            default -> argument;
        };
        return merge(function, state, value);
    }

    private Object subtract(String function, Object state, Object argument) {
        if (keepsAll && OF_ALL_VALUES.contains(function)) {
            List<Object> left = new ArrayList<>((List<?>) state);
            left.remove(argument);
            return left;
        }
        return switch (function) {
            case "count", "sum" -> Cel.add(state, negative(argument));
            case "avg" -> merge(function, state, List.of(-((Number) argument).doubleValue(), -1L));
            default -> throw new IllegalArgumentException("`" + function + "` cannot be undone");
        };
    }

    private static Object negative(Object number) {
        return number instanceof Long whole ? (Object) (-whole) : (Object) (-(Double) number);
    }

    @Override
    public Row merge(Row earlier, Row later) {
        Map<String, Object> both = new TreeMap<>();
        calls.forEach((name, call) -> both.put(name, merge(call.function(), earlier.fields().get(name), later.fields().get(name))));
        return Row.of(both);
    }

    private static Object merge(String function, Object earlier, Object later) {
        if (earlier == null || later == null) {
            return earlier == null ? later : earlier;
        }
        return switch (function) {
            case "count", "sum", "collect" -> Cel.add(earlier, later);
            case "avg" -> {
                List<?> a = (List<?>) earlier;
                List<?> b = (List<?>) later;
                yield List.of((Double) a.get(0) + (Double) b.get(0), (Long) a.get(1) + (Long) b.get(1));
            }
            case "min" -> Cel.compare(later, earlier) < 0 ? later : earlier;
            case "max" -> Cel.compare(later, earlier) > 0 ? later : earlier;
            case "first" -> earlier;
            case "last" -> later;
            default -> {
                List<Object> distinct = new ArrayList<>((List<?>) earlier);
                ((List<?>) later).stream().filter(item -> !distinct.contains(item)).forEach(distinct::add);
                yield distinct;
            }
        };
    }

    @Override
    public Row result(Row state) {
        Map<String, Object> result = new TreeMap<>();
        calls.forEach((name, call) -> result.put(name, shown(call.function(), state.fields().get(name))));
        return Row.of(result);
    }

    private Object shown(String function, Object state) {
        if (!keepsAll || !OF_ALL_VALUES.contains(function)) {
            return result(function, state);
        }
        List<?> all = state == null ? List.of() : (List<?>) state;
        return switch (function) {
            case "count_distinct" -> all.stream().distinct().count();
            case "min" -> all.stream().reduce((a, b) -> Cel.compare(b, a) < 0 ? b : a).map(Object.class::cast).orElse(null);
            default -> all.stream().reduce((a, b) -> Cel.compare(b, a) > 0 ? b : a).map(Object.class::cast).orElse(null);
        };
    }

    private static Object result(String function, Object state) {
        return switch (function) {
            case "count", "sum" -> state == null ? 0L : state;
            case "avg" -> state instanceof List<?> mean && (Long) mean.get(1) != 0 ? (Double) mean.get(0) / (Long) mean.get(1) : null;
            case "collect" -> state == null ? List.of() : state;
            case "count_distinct" -> state == null ? 0L : (long) ((List<?>) state).size();
            default -> state;
        };
    }
}
