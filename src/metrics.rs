//! What is counted. Labels are upstream, outcome, kind and code; never a repository or a digest.
