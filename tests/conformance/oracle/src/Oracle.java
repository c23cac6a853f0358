import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;

/** Asks Kafka Streams what a scenario gives: see {@code tests/conformance/README.md}. */
public final class Oracle {
    private final Schemas schemas;
    private final Path state;
    private int runs;

    private Oracle(Path schemas) throws IOException {
        this.schemas = new Schemas(schemas);
        this.state = Files.createTempDirectory("streams-oracle");
    }

    public static void main(String[] args) throws IOException {
        Oracle oracle = new Oracle(Path.of(args[0]));
        try {
            List<String> rest = List.of(args).subList(1, args.length);
            int out = rest.indexOf("--out");
            if (rest.equals(List.of("--stdin"))) {
                oracle.answer();
            } else if (out < 1 || out != rest.size() - 2) {
                System.err.println("usage: run FILE-OR-FOLDER… --out GOLDEN_FOLDER\n       run --stdin");
                System.exit(2);
            } else if (!oracle.write(rest.subList(0, out), Path.of(rest.get(out + 1)))) {
                System.exit(1);
            }
        } finally {
            delete(oracle.state);
        }
    }

    /** Answers each path of a scenario with a line of JSON. */
    private void answer() throws IOException {
        BufferedReader paths = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        for (String path; (path = paths.readLine()) != null; ) {
            String answer;
            try {
                answer = Golden.line(outputs(Path.of(path)));
            } catch (Exception e) {
                answer = Golden.failure(cause(e));
            }
            answers.println(answer);
        }
    }

    /** Writes a golden for each scenario, {@code group/name.json} for {@code …/group/name.toml}. */
    private boolean write(List<String> paths, Path goldens) throws IOException {
        boolean sound = true;
        int scenarios = 0;
        int results = 0;
        for (Path scenario : scenarios(paths)) {
            try {
                List<Output> outputs = outputs(scenario);
                String name = scenario.getFileName().toString().replaceFirst("\\.toml$", ".json");
                Path golden = goldens.resolve(scenario.toAbsolutePath().getParent().getFileName()).resolve(name);
                Files.createDirectories(golden.getParent());
                Files.writeString(golden, Golden.file(outputs));
                scenarios++;
                results += outputs.size();
            } catch (Exception e) {
                System.err.println(scenario + ": " + cause(e));
                sound = false;
            }
        }
        System.err.println(scenarios + " scenarios, " + results + " outputs");
        return sound;
    }

    private static List<Path> scenarios(List<String> paths) throws IOException {
        List<Path> scenarios = new ArrayList<>();
        for (String path : paths) {
            try (Stream<Path> files = Files.walk(Path.of(path))) {
                files.filter(file -> file.toString().endsWith(".toml")).sorted().forEach(scenarios::add);
            }
        }
        return scenarios;
    }

    private List<Output> outputs(Path scenario) throws IOException {
        Path own = state.resolve(String.valueOf(runs++));
        try {
            return Scenario.read(scenario, schemas).run(own);
        } finally {
            delete(own);
        }
    }

    /** The driver wraps what went wrong in where it went wrong. */
    private static Throwable cause(Throwable error) {
        return error.getCause() == null || error.getCause() == error ? error : cause(error.getCause());
    }

    private static void delete(Path folder) throws IOException {
        if (!Files.exists(folder)) {
            return;
        }
        try (Stream<Path> paths = Files.walk(folder)) {
            for (Path path : paths.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(path);
            }
        }
    }
}
