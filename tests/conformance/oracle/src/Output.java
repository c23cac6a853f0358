/** What reached a sink. The window is null for a row without one; key and row may be null, too. */
record Output(String topic, Object key, Row row, Row.Span window, long timestamp) {}
