"""Images: where they come from (`sources`), how pictures become arrays (`pictures`) and arrays batches (`batches`)."""
