// pgjdbc through the session endpoint.

import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.net.URI;
import java.sql.*;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import org.postgresql.PGConnection;
import org.postgresql.PGProperty;
import org.postgresql.PGStatement;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

class JdbcSession {
    interface Check {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Check> checks = new LinkedHashMap<>();
        checks.put("every way to connect that the driver knows", JdbcSession::connects);
        checks.put("a statement prepared on the server", JdbcSession::prepares);
        checks.put("a batch", JdbcSession::batches);
        checks.put("rows in portions", JdbcSession::fetchesInPortions);
        checks.put("copy both ways", JdbcSession::copies);
        checks.put("a large object of 8 MB", JdbcSession::storesALargeObject);
        checks.put("notifications", JdbcSession::hears);
        checks.put("cancel", JdbcSession::cancels);
        for (Map.Entry<String, Check> check : checks.entrySet()) {
            check.getValue().run();
            System.out.println(check.getKey());
        }
    }

    static Connection connect(String... further) throws SQLException {
        URI uri = URI.create(System.getenv("URI"));
        String[] account = uri.getUserInfo().split(":");
        Properties properties = new Properties();
        properties.setProperty("user", account[0]);
        properties.setProperty("password", account[1]);
        for (int i = 0; i < further.length; i += 2) {
            properties.setProperty(further[i], further[i + 1]);
        }
        String address = uri.getHost() + ":" + uri.getPort() + uri.getPath();
        return DriverManager.getConnection(
            "jdbc:postgresql://" + address + "?" + uri.getRawQuery(), properties);
    }

    // Drivers since 42.7 know both of these.
    static void connects() throws SQLException {
        String[] direct = PGProperty.forName("sslNegotiation") == null
            ? new String[] {} : new String[] {"sslNegotiation", "direct"};
        String[] bound = PGProperty.forName("channelBinding") == null
            ? new String[] {} : new String[] {"channelBinding", "require"};
        String[] binary = {"prepareThreshold", "-1", "preferQueryMode", "extended"};
        String[] simple = {"preferQueryMode", "simple"};
        for (String[] further : new String[][] {{}, direct, bound, binary, simple}) {
            try (Connection connection = connect(further)) {
                same("app", one(connection, "SELECT current_user"));
            }
        }
    }

    static void prepares() throws SQLException {
        try (Connection connection = connect();
             PreparedStatement statement = connection.prepareStatement("SELECT ? * 2")) {
            for (int n = 0; n < 20; n++) {
                statement.setInt(1, n);
                try (ResultSet result = statement.executeQuery()) {
                    result.next();
                    same(2 * n, result.getInt(1));
                }
            }
            same(true, statement.unwrap(PGStatement.class).isUseServerPrepare());
            same("S_1", one(connection, "SELECT name FROM pg_prepared_statements"
                + " WHERE statement LIKE '%* 2'"));
        }
    }

    static void batches() throws SQLException {
        try (Connection connection = connect("reWriteBatchedInserts", "true");
             Statement statement = connection.createStatement()) {
            connection.setAutoCommit(false);
            statement.execute("CREATE TEMP TABLE batch (n int)");
            try (PreparedStatement insert =
                     connection.prepareStatement("INSERT INTO batch VALUES (?)")) {
                for (int n = 0; n < 5000; n++) {
                    insert.setInt(1, n);
                    insert.addBatch();
                }
                same(5000, insert.executeBatch().length);
            }
            Savepoint savepoint = connection.setSavepoint();
            try {
                statement.execute("INSERT INTO batch VALUES ('x')");
                throw new AssertionError("no error");
            } catch (SQLException error) {
                same("22P02", error.getSQLState());
                connection.rollback(savepoint);
            }
            same("12497500", one(connection, "SELECT sum(n) FROM batch"));
            connection.commit();
        }
    }

    static void fetchesInPortions() throws SQLException {
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(7);
                long sum = 0;
                try (ResultSet rows = statement.executeQuery("SELECT generate_series(1, 3000)")) {
                    while (rows.next()) {
                        sum += rows.getInt(1);
                    }
                }
                same(4_501_500L, sum);
            }
        }
    }

    static void copies() throws Exception {
        StringBuilder lines = new StringBuilder();
        for (int n = 0; n < 20_000; n++) {
            lines.append(n).append("\ttext ").append(n).append('\n');
        }
        try (Connection connection = connect(); Statement statement = connection.createStatement()) {
            statement.execute("CREATE TEMP TABLE copied (n int, t text)");
            var copy = connection.unwrap(PGConnection.class).getCopyAPI();
            same(20_000L, copy.copyIn("COPY copied FROM STDIN", new StringReader(lines.toString())));
            var out = new ByteArrayOutputStream();
            copy.copyOut("COPY (SELECT * FROM copied ORDER BY n) TO STDOUT", out);
            same(lines.toString(), out.toString());
        }
    }

    static void storesALargeObject() throws SQLException {
        byte[] content = new byte[8 << 20];
        new Random(1).nextBytes(content);
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            LargeObjectManager manager = connection.unwrap(PGConnection.class).getLargeObjectAPI();
            long oid = manager.createLO();
            try (LargeObject object = manager.open(oid, LargeObjectManager.WRITE)) {
                object.write(content);
            }
            connection.commit();
            try (LargeObject object = manager.open(oid, LargeObjectManager.READ)) {
                same(content.length, (int) object.size64());
                same(true, Arrays.equals(content, object.read(content.length)));
            }
            manager.delete(oid);
            connection.commit();
        }
    }

    static void hears() throws SQLException {
        try (Connection listener = connect(); Connection sender = connect();
             Statement listen = listener.createStatement();
             Statement notify = sender.createStatement()) {
            listen.execute("LISTEN news");
            notify.execute("NOTIFY news, 'hello'");
            PGConnection connection = listener.unwrap(PGConnection.class);
            var notifications = connection.getNotifications(10_000);
            same(1, notifications.length);
            same("hello", notifications[0].getParameter());
            same(sender.unwrap(PGConnection.class).getBackendPID(), notifications[0].getPID());
        }
    }

    static void cancels() throws SQLException {
        try (Connection connection = connect(); Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            try {
                statement.execute("SELECT pg_sleep(30)");
                throw new AssertionError("was not cancelled");
            } catch (SQLException error) {
                same("57014", error.getSQLState());
            }
            same("1", one(connection, "SELECT 1"));
        }
    }

    static String one(Connection connection, String query) throws SQLException {
        try (Statement statement = connection.createStatement();
             ResultSet result = statement.executeQuery(query)) {
            result.next();
            return result.getString(1);
        }
    }

    static void same(Object expected, Object seen) {
        if (!expected.equals(seen)) {
            throw new AssertionError("expected " + expected + ", saw " + seen);
        }
    }
}
