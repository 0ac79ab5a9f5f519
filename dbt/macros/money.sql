{#- Whether a line is not held back by the gate, so that business marts count it. NULL is of before there was a gate.
    facts: alias of FACT_ORDERS. -#}
{% macro is_let_in(facts) -%}
    not coalesce({{ facts }}.is_held, false)
{%- endmacro %}

{#- Whether a line takes back what another one sold, so that it is no sale itself: a return that is not in place.
    facts: alias of FACT_ORDERS. -#}
{% macro is_reversal(facts) -%}
    {{ facts }}.is_returned and {{ facts }}.returned_amount = 0
{%- endmacro %}

{#- The sums of money of a mart, over a CTE `lines` of facts with is_reversal: gross - discount - returned = net.
    What was sold is in gross and discount; both ways of taking back are in returned, not negative. Converted amounts leave
    out lines without an exchange rate, which are counted. -#}
{% macro money_sums() -%}
    sum(iff(lines.is_reversal, 0, lines.gross_amount)) as gross_amount,
    sum(iff(lines.is_reversal, 0, lines.discount_amount)) as discount_amount,
    sum(iff(lines.is_reversal, -lines.net_amount, lines.returned_amount)) as returned_amount,
    sum(lines.net_amount) as net_amount,
    sum(iff(lines.is_reversal, 0 * lines.reporting_gross_amount, lines.reporting_gross_amount)) as reporting_gross_amount,
    sum(iff(lines.is_reversal, 0 * lines.reporting_discount_amount, lines.reporting_discount_amount))
        as reporting_discount_amount,
    sum(iff(lines.is_reversal, -lines.reporting_net_amount, lines.reporting_returned_amount))
        as reporting_returned_amount,
    sum(lines.reporting_net_amount) as reporting_net_amount,
    count_if(lines.reporting_net_amount is null) as lines_without_exchange_rate
{%- endmacro %}
