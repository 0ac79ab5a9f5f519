{{
    config(
        materialized='replace_touched',
        meta={'replaces_all': true},
    )
}}

{%- set horizon = var('lifetime_horizon_days') %}

with persons as (
    select * from {{ ref('int_person_lifetimes') }}
),

parameters as (
    select
        source_system,
        r::float as r,
        alpha::float as alpha,
        a::float as a,
        b::float as b,
        credibility_days,
        mean_amount
    from {{ ref('int_lifetime_parameters') }}
),

-- The model: int_lifetime_parameters.yml. Exponents are bounded because nobody is more surely gone than that.
posterior as (
    select
        persons.*,
        parameters.mean_amount,
        iff(
            persons.order_day_count = 0,
            null,
            1 / (
                1 + exp(
                    least(
                        ln(parameters.a / (parameters.b + persons.repeat_day_count))
                        + (parameters.r + persons.repeat_day_count)
                        * ln((parameters.alpha + persons.age_days) / (parameters.alpha + persons.active_days)),
                        50
                    )
                )
            )
        ) as alive,
        parameters.a / (parameters.a + parameters.b + persons.order_day_count) as leaving,
        (
            1 - exp(
                (parameters.r + persons.repeat_day_count)
                * ln(
                    (parameters.alpha + persons.age_days)
                    / (parameters.alpha + persons.age_days + leaving * {{ horizon }})
                )
            )
        ) / leaving as order_days_if_alive,
        iff(
            persons.order_day_count = 0,
            null,
            round(persons.order_day_count / (persons.order_day_count + parameters.credibility_days), 6)
        )::number(18, 6) as credibility,
        round(persons.reporting_net_amount / nullif(persons.order_day_count, 0), 4)::number(18, 4) as own_amount
    from persons
    left join parameters on persons.source_system = parameters.source_system
),

expected as (
    select
        *,
        round(alive, 4)::number(5, 4) as probability_alive,
        round(alive * order_days_if_alive, 4)::number(18, 4) as expected_order_days,
        round(
            own_amount::number(38, 4) * credibility + mean_amount::number(38, 4) * (1 - credibility), 4
        )::number(18, 4) as expected_order_day_amount
    from posterior
)

select
    source_system::varchar as source_system,
    person_id::varchar as customer_id,
    as_of_date::date as as_of_date,
    date_trunc('month', first_order_date)::date as cohort_month,
    first_order_date::date as first_order_date,
    first_ordered_at::timestamp_ntz as first_ordered_at,
    first_order_id::varchar as first_order_id,
    last_order_date::date as last_order_date,
    last_ordered_at::timestamp_ntz as last_ordered_at,
    last_order_id::varchar as last_order_id,
    order_count::number(38, 0) as order_count,
    order_day_count::number(38, 0) as order_day_count,
    repeat_day_count::number(38, 0) as repeat_day_count,
    active_days::number(38, 0) as active_days,
    age_days::number(38, 0) as age_days,
    (age_days - active_days)::number(38, 0) as days_since_last_order,
    reporting_currency::varchar(3) as reporting_currency,
    reporting_gross_amount::number(18, 4) as reporting_gross_amount,
    reporting_discount_amount::number(18, 4) as reporting_discount_amount,
    reporting_returned_amount::number(18, 4) as reporting_returned_amount,
    reporting_net_amount::number(18, 4) as reporting_net_amount,
    lines_without_exchange_rate::number(38, 0) as lines_without_exchange_rate,
    round(reporting_net_amount / nullif(order_count, 0), 4)::number(18, 4) as average_order_amount,
    probability_alive::number(5, 4) as probability_alive,
    {{ horizon }}::number(38, 0) as horizon_days,
    expected_order_days::number(18, 4) as expected_order_days,
    expected_order_day_amount::number(18, 4) as expected_order_day_amount,
    round(expected_order_days::number(38, 4) * expected_order_day_amount, 4)::number(18, 4) as expected_net_amount
from expected
