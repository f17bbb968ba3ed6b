//! Small programs that show Odeum, and the guests they run.
