-- Schemas, in the order in which data goes through them.

create schema if not exists raw comment = 'As landed: text, with lineage columns. Written by COPY INTO and Snowpipe only';
create schema if not exists ops comment = 'The ledger: files, runs, quarantine, migrations, source conventions';
create schema if not exists staging comment = 'dbt views over RAW: cast, normalized, deduplicated; and what they reject';
create schema if not exists intermediate comment = 'dbt working models between staging and marts';
create schema if not exists marts comment = 'The star schema and the business marts';
create schema if not exists quality comment = 'Anomalies, reconciliations and test results';

grant usage on all schemas in database identifier($database_name) to role customer_analytics_pipeline;
grant all privileges on schema raw to role customer_analytics_loader;
grant all privileges on schema ops to role customer_analytics_loader;
grant usage on schema raw to role customer_analytics_transformer;
grant usage on schema ops to role customer_analytics_transformer;
grant all privileges on schema staging to role customer_analytics_transformer;
grant all privileges on schema intermediate to role customer_analytics_transformer;
grant all privileges on schema marts to role customer_analytics_transformer;
grant all privileges on schema quality to role customer_analytics_loader;
grant usage on schema marts to role customer_analytics_analyst;
grant usage on schema quality to role customer_analytics_transformer;
grant usage on schema quality to role customer_analytics_analyst;
