-- Holds the ledger's lock until the transaction ends, so that of two consumers one loads the batch.
-- Bound: 1. run, 2. staged key.
update ops.stream_batches
set run_id = ?
where staged_key = ? and state = 'claimed'
