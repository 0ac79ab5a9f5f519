-- How staged files are read. The external stage over the lake is created by the loader, because its address is a
-- setting; this internal stage takes files by PUT where Snowflake can't read the lake itself.

create file format if not exists raw.staged_parquet
    type = parquet
    comment = 'Parquet files written by the ingestion steps';

create stage if not exists raw.uploads comment = 'Staged files, put here when the lake is out of the warehouse''s reach';
