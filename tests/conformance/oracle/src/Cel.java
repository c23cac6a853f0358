import dev.cel.common.CelOptions;
import dev.cel.common.CelValidationException;
import dev.cel.common.CelValidationResult;
import dev.cel.common.ast.CelExpr;
import dev.cel.parser.CelParser;
import dev.cel.parser.CelParserFactory;
import dev.cel.parser.CelStandardMacro;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * An expression: CEL's own parser, and values by the rules of the topology language, in which null and CEL's empty optional are
 * one thing: {@code right.?x} is null where there is no right row. Only what scenarios need.
 */
final class Cel {
    private static final CelParser PARSER = CelParserFactory.standardCelParserBuilder()
        .setStandardMacros(CelStandardMacro.HAS)
        .setOptions(CelOptions.current().enableOptionalSyntax(true).build())
        .build();

    private final String text;
    private final CelExpr expr;

    private Cel(String text, CelExpr expr) {
        this.text = text;
        this.expr = expr;
    }

    static Cel of(String text) {
        CelValidationResult parsed = PARSER.parse(text);
        try {
            return new Cel(text, parsed.getAst().getExpr());
        } catch (CelValidationException e) {
            throw new IllegalArgumentException("`" + text + "`: " + e.getMessage());
        }
    }

    /** The function that the whole expression calls: {@code sum} of {@code sum(value.x)}. */
    String function() {
        if (expr.getKind() != CelExpr.ExprKind.Kind.CALL || expr.call().target().isPresent()) {
            throw new IllegalArgumentException("`" + text + "` is no call of an aggregate function");
        }
        return expr.call().function();
    }

    /** The argument of that call; null for {@code count()}. */
    Cel argument() {
        return expr.call().args().isEmpty() ? null : new Cel(text, expr.call().args().get(0));
    }

    boolean test(Map<String, Object> roots) {
        return (Boolean) eval(roots);
    }

    Object eval(Map<String, Object> roots) {
        try {
            return eval(expr, roots);
        } catch (RuntimeException e) {
            throw new IllegalStateException("`" + text + "`: " + e.getMessage(), e);
        }
    }

    private static Object eval(CelExpr expr, Map<String, Object> roots) {
        return switch (expr.getKind()) {
            case CONSTANT -> constant(expr);
            case IDENT -> {
                if (!roots.containsKey(expr.ident().name())) {
                    throw new IllegalStateException("there is no `" + expr.ident().name() + "`");
                }
                yield roots.get(expr.ident().name());
            }
            case SELECT -> select(expr.select(), roots);
            case CALL -> call(expr.call(), roots);
            case LIST -> evalAll(expr.list().elements(), roots);
            default -> throw new IllegalStateException(expr.getKind() + " is not for scenarios");
        };
    }

    private static List<Object> evalAll(List<CelExpr> exprs, Map<String, Object> roots) {
        List<Object> values = new ArrayList<>();
        exprs.forEach(expr -> values.add(eval(expr, roots)));
        return values;
    }

    private static Object constant(CelExpr expr) {
        return switch (expr.constant().getKind()) {
            case NULL_VALUE -> null;
            case BOOLEAN_VALUE -> expr.constant().booleanValue();
            case INT64_VALUE -> expr.constant().int64Value();
            case DOUBLE_VALUE -> expr.constant().doubleValue();
            case STRING_VALUE -> expr.constant().stringValue();
            default -> throw new IllegalStateException(expr.constant().getKind() + " is not for scenarios");
        };
    }

    private static Object select(CelExpr.CelSelect select, Map<String, Object> roots) {
        Object of = eval(select.operand(), roots);
        if (select.testOnly()) {
            return of instanceof Map<?, ?> fields && fields.get(select.field()) != null;
        }
        if (of == null && isOptional(select.operand())) {
            return null;
        }
        if (!(of instanceof Map<?, ?> fields) || !fields.containsKey(select.field())) {
            throw new IllegalStateException("no field `" + select.field() + "` in " + of);
        }
        return fields.get(select.field());
    }

    /** What is selected from an optional is optional itself. */
    private static boolean isOptional(CelExpr expr) {
        return switch (expr.getKind()) {
            case SELECT -> isOptional(expr.select().operand());
            case CALL -> expr.call().function().equals("_?._");
            default -> false;
        };
    }

    private static Object call(CelExpr.CelCall call, Map<String, Object> roots) {
        List<CelExpr> args = call.args();
        switch (call.function()) {
            case "_&&_":
                return (Boolean) eval(args.get(0), roots) && (Boolean) eval(args.get(1), roots);
            case "_||_":
                return (Boolean) eval(args.get(0), roots) || (Boolean) eval(args.get(1), roots);
            case "_?_:_":
                return eval(args.get((Boolean) eval(args.get(0), roots) ? 1 : 2), roots);
            case "orValue":
                Object value = eval(call.target().orElseThrow(), roots);
                return value == null ? eval(args.get(0), roots) : value;
            case "_?._":
                return eval(args.get(0), roots) instanceof Map<?, ?> fields ? fields.get(args.get(1).constant().stringValue()) : null;
            default:
                List<Object> all = new ArrayList<>();
                call.target().ifPresent(target -> all.add(eval(target, roots)));
                all.addAll(evalAll(args, roots));
                return apply(call.function(), all);
        }
    }

    private static Object apply(String function, List<Object> args) {
        Object a = args.get(0);
        Object b = args.size() > 1 ? args.get(1) : null;
        return switch (function) {
            case "_==_" -> Objects.equals(a, b);
            case "_!=_" -> !Objects.equals(a, b);
            case "_<_" -> compare(a, b) < 0;
            case "_<=_" -> compare(a, b) <= 0;
            case "_>_" -> compare(a, b) > 0;
            case "_>=_" -> compare(a, b) >= 0;
            case "!_" -> !(Boolean) a;
            case "-_" -> a instanceof Double number ? (Object) (-number) : (Object) Math.negateExact((Long) a);
            case "_+_" -> add(a, b);
            case "_-_" -> a instanceof Double number ? (Object) (number - (Double) b) : (Object) Math.subtractExact((Long) a, (Long) b);
            case "_*_" -> a instanceof Double number ? (Object) (number * (Double) b) : (Object) Math.multiplyExact((Long) a, (Long) b);
            case "_/_" -> a instanceof Double number ? (Object) (number / (Double) b) : (Object) ((Long) a / (Long) b);
            case "_%_" -> (Long) a % (Long) b;
            case "@in" -> ((List<?>) b).contains(a);
            case "_[_]" -> ((List<?>) a).get(Math.toIntExact((Long) b));
            case "size" -> a instanceof List<?> items ? (long) items.size() : (long) ((String) a).codePointCount(0, ((String) a).length());
            case "startsWith" -> ((String) a).startsWith((String) b);
            case "endsWith" -> ((String) a).endsWith((String) b);
            case "contains" -> a instanceof List<?> items ? items.contains(b) : ((String) a).contains((String) b);
            case "string" -> a.toString();
            case "int" -> toInt(a);
            case "double" -> a instanceof String text ? Double.valueOf(text) : (Object) ((Number) a).doubleValue();
            default -> throw new IllegalStateException("`" + function + "` is not for scenarios");
        };
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    static int compare(Object a, Object b) {
        return ((Comparable) a).compareTo(b);
    }

    static Object add(Object a, Object b) {
        if (a instanceof Long number) {
            return Math.addExact(number, (Long) b);
        }
        if (a instanceof Double number) {
            return number + (Double) b;
        }
        if (a instanceof List<?> items) {
            List<Object> both = new ArrayList<>(items);
            both.addAll((List<?>) b);
            return both;
        }
        return (String) a + (String) b;
    }

    private static Long toInt(Object value) {
        if (value instanceof Instant moment) {
            return moment.getEpochSecond();
        }
        return value instanceof String text ? Long.valueOf(text) : ((Number) value).longValue();
    }
}
