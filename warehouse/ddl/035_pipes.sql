-- Snowpipe. One pipe per table of RAW (RAW.<TABLE>_PIPE), created by the loader when it first loads by one (setting
-- load_method = snowpipe), because a pipe is bound to its stage, and the stage's address is a setting:
--
-- - over RAW.LAKE, where Snowflake reads the bucket itself: with AUTO_INGEST, told by the bucket's notifications, directly
--   or by an SNS topic (setting snowpipe_sns_topic). The bucket must notify the queue that DESC PIPE shows as
--   notification_channel;
-- - over RAW.UPLOADS, where files are PUT, and in the local warehouse over a folder: told by ALTER PIPE … REFRESH.
--
-- The ledger (OPS.FILES) decides what is loaded. A pipe may be dropped or created anew at any time.

grant create pipe on schema raw to role customer_analytics_loader;
grant monitor, operate on all pipes in schema raw to role customer_analytics_loader;
grant monitor, operate on future pipes in schema raw to role customer_analytics_loader;
