import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/** HikariCP, with eight requests at a time, for as long as its standard input stays open. */
class HikariPool {
    static final AtomicInteger ok = new AtomicInteger();
    static final Map<String, Integer> failed = new TreeMap<>();
    static volatile boolean over;

    static boolean request(HikariDataSource pool) {
        try (Connection connection = pool.getConnection();
             PreparedStatement insert =
                 connection.prepareStatement("INSERT INTO requests VALUES (?)")) {
            insert.setInt(1, ok.get());
            insert.executeUpdate();
            ok.incrementAndGet();
            return true;
        } catch (SQLException error) {
            synchronized (failed) {
                failed.merge(String.valueOf(error.getSQLState()), 1, Integer::sum);
            }
            return false;
        }
    }

    static boolean requests(HikariDataSource pool) throws InterruptedException {
        while (!over) {
            request(pool);
            Thread.sleep(10);
        }
        return request(pool);
    }

    public static void main(String[] arguments) throws Exception {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(System.getenv("URI"));
        config.setMaximumPoolSize(8);
        config.setConnectionTimeout(60_000);
        HikariDataSource pool = new HikariDataSource(config);
        ExecutorService workers = Executors.newFixedThreadPool(8);
        Callable<Boolean> work = () -> requests(pool);
        var running = IntStream.range(0, 8).mapToObj(n -> workers.submit(work))
            .collect(Collectors.toList());
        System.out.println("ready");
        System.in.readAllBytes();
        over = true;
        boolean recovered = true;
        for (var worker : running) recovered &= worker.get();
        String codes = failed.entrySet().stream()
            .map(entry -> "\"" + entry.getKey() + "\": " + entry.getValue())
            .collect(Collectors.joining(", "));
        System.out.printf(
            "{\"ok\": %d, \"failed\": {%s}, \"recovered\": %b}%n", ok.get(), codes, recovered);
        workers.shutdown();
        pool.close();
    }
}
