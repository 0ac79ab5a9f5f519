-- Account objects. On Snowflake, run by a role that may create warehouses, databases and roles; locally accepted
-- without effect. The session variables database_name and warehouse_name are set by `customer-analytics migrate`.

create warehouse if not exists identifier($warehouse_name)
warehouse_size = 'XSMALL'
auto_suspend = 60
auto_resume = true
initially_suspended = true
comment = 'Customer analytics: loading, dbt and quality checks';

create role if not exists customer_analytics_loader comment = 'Lands files and streams: writes RAW and OPS';
create role if not exists customer_analytics_transformer comment = 'dbt: reads RAW and OPS, fills STAGING to MARTS';
create role if not exists customer_analytics_analyst comment = 'People: read MARTS and QUALITY';
create role if not exists customer_analytics_pipeline comment = 'The pipeline as a whole: loader and transformer';

grant role customer_analytics_loader to role customer_analytics_pipeline;
grant role customer_analytics_transformer to role customer_analytics_pipeline;

create database if not exists identifier($database_name);

grant usage on warehouse identifier($warehouse_name) to role customer_analytics_pipeline;
grant usage on warehouse identifier($warehouse_name) to role customer_analytics_analyst;
grant usage, create schema on database identifier($database_name) to role customer_analytics_pipeline;
grant usage on database identifier($database_name) to role customer_analytics_analyst;
