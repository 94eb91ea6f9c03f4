"""Storage: one ordered map of keys to bytes, kept in a file or in memory."""
