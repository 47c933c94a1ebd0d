"""What is edited: records, the data sets that they are read from, and the questions that each record asks.
Knows texts and files; of models it only asks where the cache folder is and how a tokenizer counts."""
