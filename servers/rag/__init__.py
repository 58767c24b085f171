"""The rag server: hybrid search with citations over a folder of documents."""
