import java.math.BigDecimal;
import java.sql.*;
import java.util.*;
import org.postgresql.PGConnection;

/**
 * A payment service: for each order in its inbox it takes the payment and
 * publishes an event, in one transaction with the mark that the order is done.
 */
public final class Payments {
    record Message(long id, Object leaseToken, String orderId, String customer, String amount) {}

    /** Will never work. */
    static final class BadOrder extends RuntimeException { BadOrder(String why) { super(why); } }

    /** May be known soon. */
    static final class UnknownCustomer extends RuntimeException { UnknownCustomer(String why) { super(why); } }

    static final String WORKER = System.getenv().getOrDefault("WORKER", "payments-" + ProcessHandle.current().pid());
    static final int LEASE_SECONDS = Integer.parseInt(System.getenv().getOrDefault("LEASE_SECONDS", "30"));
    static final int POLL_SECONDS = Integer.parseInt(System.getenv().getOrDefault("POLL_SECONDS", "5"));
    static volatile boolean stopping;

    private final Database db;

    Payments(Database db) { this.db = db; }

    /** The work of one message and its completion, in a transaction. */
    private void handle(Message m) throws SQLException {
        db.inTransaction(() -> {
            BigDecimal amount = new BigDecimal(m.amount);
            if (amount.signum() <= 0) throw new BadOrder("order " + m.orderId + " has the amount " + amount);
            db.execute("insert into payments (order_id, customer, amount) values (?, ?, ?)", m.orderId, m.customer, amount);
            db.execute("""
                select tide.outbox_publish('payment_events', 'payments', jsonb_build_object('event_type', 'payment.received',
                    'order_id', ?::text, 'customer', ?::text, 'amount', ?::numeric), key => ?)""",
                m.orderId, m.customer, amount, m.customer);
            if (db.execute("update customers set paid = paid + ? where id = ?", amount, m.customer) == 0)
                throw new UnknownCustomer("there is no customer " + m.customer + " yet");
            return db.execute("select tide.inbox_complete('payment_triggers', ?, ?)", m.leaseToken, ids(List.of(m)));
        });
    }

    private void fail(Message m, Exception error) throws SQLException {
        System.err.println("message " + m.id + ": " + error);
        String retryIn = error instanceof UnknownCustomer ? "500 milliseconds" : null; // null: longer each time
        db.execute("select tide.inbox_fail('payment_triggers', ?, ?, ?, retry_in => ?::interval, give_up => ?)",
            m.leaseToken, ids(List.of(m)), error.toString(), retryIn, error instanceof BadOrder);
    }

    private Array ids(List<Message> messages) throws SQLException {
        return db.connection().createArrayOf("bigint", messages.stream().map(Message::id).toArray());
    }

    private List<Message> claim(int most) throws SQLException {
        List<Message> messages = new ArrayList<>();
        try (PreparedStatement claim = db.connection().prepareStatement("""
                select id, lease_token, payload->>'order_id', payload->>'customer', payload->>'amount'
                from tide.inbox_claim('payment_triggers', ?, ?, make_interval(secs => ?))""")) {
            claim.setString(1, WORKER);
            claim.setInt(2, most);
            claim.setInt(3, LEASE_SECONDS);
            for (ResultSet row = claim.executeQuery(); row.next(); )
                messages.add(new Message(row.getLong(1), row.getObject(2), row.getString(3), row.getString(4), row.getString(5)));
        }
        return messages;
    }

    /** The claim is committed at once; each message's work is a transaction of its own. */
    private boolean workByLease() throws SQLException {
        long since = System.nanoTime();
        List<Message> messages = claim(10);
        for (int i = 0; i < messages.size(); i++) {
            Message m = messages.get(i);
            Array rest = ids(messages.subList(i, messages.size()));
            if (stopping) {
                db.execute("select tide.inbox_release('payment_triggers', ?, ?)", m.leaseToken, rest);
                break;
            }
            if (System.nanoTime() - since > LEASE_SECONDS * 1_000_000_000L / 3) {
                since = System.nanoTime();
                db.execute("select tide.inbox_extend('payment_triggers', ?, ?, make_interval(secs => ?))", m.leaseToken, rest, LEASE_SECONDS);
            }
            try {
                handle(m);
            } catch (SQLException | RuntimeException error) {
                if (leaseLost(error)) throw error;
                fail(m, error);
            }
        }
        return !messages.isEmpty();
    }

    /** Claim and work are one transaction; the nested one undoes the work alone. */
    private boolean workInOneTransaction() throws SQLException {
        return db.inTransaction(() -> {
            List<Message> messages = claim(1);
            for (Message m : messages) {
                try {
                    handle(m);
                } catch (SQLException | RuntimeException error) {
                    fail(m, error);
                }
            }
            return !messages.isEmpty();
        });
    }

    private static boolean leaseLost(Exception error) {
        return error instanceof SQLException answer && "TD001".equals(answer.getSQLState());
    }

    private void run(Database.Work<Boolean> work) throws SQLException {
        db.execute("listen tide_inbox_payment_triggers");
        while (!stopping) {
            boolean worked = true;
            try {
                worked = work.run();
            } catch (SQLException error) {
                if (!leaseLost(error)) throw error;
                System.err.println(error.getMessage()); // others have the messages, and our work was rolled back
            }
            for (int i = 0; i < POLL_SECONDS && !worked && !stopping; i++)
                worked = db.connection().unwrap(PGConnection.class).getNotifications(1000).length > 0;
        }
    }

    public static void main(String[] arguments) throws Exception {
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> { // SIGTERM: what has begun is finished
            stopping = true;
            try { main.join(); } catch (InterruptedException impatient) { }
        }));
        try (Connection connection = DriverManager.getConnection(System.getenv("DATABASE_URL"))) {
            Payments payments = new Payments(new Database(connection));
            boolean oneTransaction = "transaction".equals(System.getenv("MODE"));
            payments.run(oneTransaction ? payments::workInOneTransaction : payments::workByLease);
        }
        System.out.println("stopped");
    }
}
