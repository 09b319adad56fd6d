"""PT, pre-training: next-token prediction on packed documents, from scratch or continued."""
