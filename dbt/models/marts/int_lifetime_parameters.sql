{{ config(materialized='table', schema='INTERMEDIATE') }}

{#- Where the likelihood is looked at; a gamma's shape, how much faster living customers order than all customers did on
    average, the mean chance to leave after an order, and how alike customers are in that. -#}
{%- set shapes = [0.25, 0.5, 1, 2, 4] %}
{%- set speeds = [0.8, 1.2, 1.8, 2.7, 4, 6] %}
{%- set chances = [0.01, 0.03, 0.07, 0.15, 0.3, 0.5] %}
{%- set weights = [1, 3, 10] %}

with persons as (
    select *
    from {{ ref('int_person_lifetimes') }}
    where order_day_count > 0
),

-- The likelihood is that of so many people, drawn by a hash, so that a large shop costs no more than a small one.
drawn as (
    select
        source_system,
        repeat_day_count,
        active_days,
        age_days
    from persons
    qualify row_number() over (partition by source_system order by md5(person_id), person_id) <= 2000
),

histories as (
    select
        source_system,
        repeat_day_count,
        active_days,
        age_days,
        count(*) as person_count
    from drawn
    group by source_system, repeat_day_count, active_days, age_days
),

-- Half an order and a day more than there were keep it above nothing.
average_rates as (
    select
        source_system,
        (2 * sum(repeat_day_count * person_count) + 1)::float / (2 * sum(age_days * person_count) + 2)::float
            as repeat_days_per_day
    from histories
    group by source_system
),

shapes as (
    select item.value::number(6, 2) as r
    from table(flatten(input => parse_json('{{ shapes }}'))) as item
),

speeds as (
    select item.value::number(6, 2) as speed
    from table(flatten(input => parse_json('{{ speeds }}'))) as item
),

chances as (
    select item.value::number(6, 2) as chance
    from table(flatten(input => parse_json('{{ chances }}'))) as item
),

weights as (
    select item.value::number(6, 2) as weight
    from table(flatten(input => parse_json('{{ weights }}'))) as item
),

leaving as (
    select
        (chances.chance * weights.weight)::number(6, 2) as a,
        ((1 - chances.chance) * weights.weight)::number(6, 2) as b
    from chances
    cross join weights
),

ordering as (
    select
        average_rates.source_system,
        shapes.r,
        greatest(
            round(shapes.r::float / (average_rates.repeat_days_per_day * speeds.speed::float), 2), 0.01
        )::number(18, 2) as alpha
    from average_rates
    cross join shapes
    cross join speeds
),

steps as (
    select datediff('day', min(date_day) over (), date_day) as step
    from {{ ref('dim_date') }}
    qualify step <= (select max(histories.repeat_day_count) from histories)
),

-- ln Γ(r + x) - ln Γ(r), for every x: a sum of logarithms, because no engine but one has a gamma function.
ordering_terms as (
    select
        shapes.r,
        steps.step as repeat_day_count,
        sum(ln(shapes.r::float + steps.step)) over (
            partition by shapes.r order by steps.step rows between unbounded preceding and current row
        ) - ln(shapes.r::float + steps.step) as log_term
    from shapes
    cross join steps
),

-- ln B(a, b + x + 1) - ln B(a, b) likewise.
leaving_terms as (
    select
        leaving.a,
        leaving.b,
        steps.step as repeat_day_count,
        sum(ln((leaving.b::float + steps.step) / (leaving.a::float + leaving.b::float + steps.step))) over (
            partition by leaving.a, leaving.b
            order by steps.step rows between unbounded preceding and current row
        ) as log_term
    from leaving
    cross join steps
),

-- A history's part that no chance to leave enters, and how much likelier it becomes by having left after the last order.
judged_orders as (
    select
        histories.source_system,
        histories.repeat_day_count,
        histories.active_days,
        histories.age_days,
        histories.person_count,
        ordering.r,
        ordering.alpha,
        ordering_terms.log_term + ordering.r::float * ln(ordering.alpha::float)
        - (ordering.r::float + histories.repeat_day_count) * ln(ordering.alpha::float + histories.age_days) as log_term,
        (ordering.r::float + histories.repeat_day_count)
        * ln((ordering.alpha::float + histories.age_days) / (ordering.alpha::float + histories.active_days))
            as log_silence
    from histories
    inner join ordering on histories.source_system = ordering.source_system
    inner join ordering_terms
        on
            ordering.r = ordering_terms.r
            and histories.repeat_day_count = ordering_terms.repeat_day_count
),

-- Rounded before they are summed: a sum of floats depends on its order.
judged as (
    select
        judged_orders.source_system,
        judged_orders.r,
        judged_orders.alpha,
        leaving_terms.a,
        leaving_terms.b,
        sum(
            judged_orders.person_count
            * round(
                judged_orders.log_term + leaving_terms.log_term
                + case
                    when
                        judged_orders.log_silence + ln(leaving_terms.a::float)
                        - ln(leaving_terms.b::float + leaving_terms.repeat_day_count) > 30
                        then
                            judged_orders.log_silence + ln(leaving_terms.a::float)
                            - ln(leaving_terms.b::float + leaving_terms.repeat_day_count)
                    else
                        ln(
                            1 + exp(
                                judged_orders.log_silence + ln(leaving_terms.a::float)
                                - ln(leaving_terms.b::float + leaving_terms.repeat_day_count)
                            )
                        )
                end,
                6
            )::number(18, 6)
        )::number(38, 6) as log_likelihood
    from judged_orders
    inner join leaving_terms on judged_orders.repeat_day_count = leaving_terms.repeat_day_count
    group by
        judged_orders.source_system, judged_orders.r, judged_orders.alpha, leaving_terms.a, leaving_terms.b
),

likeliest as (
    select *
    from judged
    qualify
        row_number() over (
            partition by source_system order by log_likelihood desc, r asc, alpha asc, a asc, b asc
        ) = 1
),

-- How much an order day's amount varies within a person, and how much persons do: Bühlmann's credibility. Of square
-- roots, because amounts vary the more the larger they are, and a few huge ones would decide.
amounts as (
    select
        source_system,
        count(*) as person_count,
        sum(valued_day_count) as day_count,
        sum(valued_day_roots)::float as roots,
        sum(valued_day_amount)::float as squares,
        sum((valued_day_roots::float * valued_day_roots::float / valued_day_count)::number(38, 4))::float
            as person_squares,
        sum(valued_day_count * valued_day_count)::float as day_count_squares
    from persons
    where valued_day_count > 0
    group by source_system
),

variances as (
    select
        source_system,
        (squares - person_squares) / nullif(day_count - person_count, 0) as within_variance,
        (person_squares - roots * roots / day_count - (person_count - 1) * within_variance)
        / nullif(day_count - day_count_squares / day_count, 0) as between_variance
    from amounts
),

-- The mean an order day comes to, returns of later days included.
means as (
    select
        source_system,
        round(sum(reporting_net_amount) / nullif(sum(iff(reporting_net_amount is null, 0, order_day_count)), 0), 4)
            as mean_amount
    from persons
    group by source_system
)

select
    likeliest.source_system,
    likeliest.r,
    likeliest.alpha,
    likeliest.a,
    likeliest.b,
    likeliest.log_likelihood,
    case
        when variances.between_variance > 0 and variances.within_variance > 0
            then least(greatest(round(variances.within_variance / variances.between_variance, 4), 0.01), 1000)
        else 1000
    end::number(18, 4) as credibility_days,
    means.mean_amount::number(18, 4) as mean_amount
from likeliest
left join variances on likeliest.source_system = variances.source_system
left join means on likeliest.source_system = means.source_system
