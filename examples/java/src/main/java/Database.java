import java.sql.*;

/** One connection, in the manner of Spring's TransactionTemplate and JdbcTemplate. */
record Database(Connection connection) {
    interface Work<T> { T run() throws SQLException; }

    /** Commits when the work returns, rolls back when it throws; within another transaction, to a savepoint. */
    <T> T inTransaction(Work<T> work) throws SQLException {
        Savepoint nested = connection.getAutoCommit() ? null : connection.setSavepoint();
        connection.setAutoCommit(false);
        try {
            T result = work.run();
            if (nested == null) connection.commit();
            return result;
        } catch (Throwable error) {
            if (nested == null) connection.rollback();
            else connection.rollback(nested);
            throw error;
        } finally {
            if (nested == null) connection.setAutoCommit(true);
        }
    }

    int execute(String sql, Object... arguments) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < arguments.length; i++) statement.setObject(i + 1, arguments[i]);
            statement.execute();
            return statement.getUpdateCount();
        }
    }
}
