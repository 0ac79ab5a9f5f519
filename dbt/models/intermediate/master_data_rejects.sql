{{ config(materialized='view', schema='STAGING') }}

with customers as (
    select
        'customers' as entity,
        customer_id as business_id,
        reject_reason,
        _source_system,
        _source_file,
        _source_hash,
        _source_row
    from {{ ref('stg_customers') }}
    where reject_reason is not null
),

customer_merges as (
    select
        'customer_merges' as entity,
        customer_id as business_id,
        reject_reason,
        _source_system,
        _source_file,
        _source_hash,
        _source_row
    from {{ ref('stg_customer_merges') }}
    where reject_reason is not null
),

products as (
    select
        'products' as entity,
        product_id as business_id,
        reject_reason,
        _source_system,
        _source_file,
        _source_hash,
        _source_row
    from {{ ref('stg_products') }}
    where reject_reason is not null
),

fx_rates as (
    select
        'fx_rates' as entity,
        base_currency as business_id,
        reject_reason,
        _source_system,
        _source_file,
        _source_hash,
        _source_row
    from {{ ref('stg_fx_rates') }}
    where reject_reason is not null
)

select
    entity,
    business_id,
    reject_reason,
    _source_system,
    _source_file,
    _source_hash,
    _source_row
from customers
union all
select
    entity,
    business_id,
    reject_reason,
    _source_system,
    _source_file,
    _source_hash,
    _source_row
from customer_merges
union all
select
    entity,
    business_id,
    reject_reason,
    _source_system,
    _source_file,
    _source_hash,
    _source_row
from products
union all
select
    entity,
    business_id,
    reject_reason,
    _source_system,
    _source_file,
    _source_hash,
    _source_row
from fx_rates
