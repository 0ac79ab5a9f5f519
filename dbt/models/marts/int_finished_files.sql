{{
    config(
        schema='INTERMEDIATE',
        materialized='table',
        post_hook=["{{ finish_claims() }}", "{{ finish_gate_changes() }}"],
    )
}}

-- The last model of a run: it waits for the whole star and every mart.
-- depends_on: {{ source('ops', 'transformed_files') }}
-- depends_on: {{ source('quality', 'held_order_lines') }}
-- depends_on: {{ ref('int_gate_changes') }}
-- depends_on: {{ ref('fact_orders') }}
-- depends_on: {{ ref('fact_clicks') }}
-- depends_on: {{ ref('fact_sessions') }}
-- depends_on: {{ ref('sales_trends') }}
-- depends_on: {{ ref('product_performance') }}
-- depends_on: {{ ref('market_basket') }}
-- depends_on: {{ ref('customer_segments') }}
-- depends_on: {{ ref('customer_cohorts') }}
-- depends_on: {{ ref('customer_lifetime') }}
-- depends_on: {{ ref('conversion_funnel') }}
select
    'fact_orders' as model_name,
    source_system,
    content_hash
from {{ ref('int_files_to_transform') }}
where is_claimed

union

select
    'fact_clicks' as model_name,
    source_system,
    content_hash
from {{ ref('int_click_batches') }}
