-- Functions for people: decide about requests, roll back. The caller passes a secret, and the database finds its owner.

create function platform.names(listed jsonb) returns text[]
language sql stable as $$
    select coalesce(array_agg(platform.folded(name)), '{}') from jsonb_array_elements_text(listed) as given (name)
$$;

-- Names of the people who launched the training or made the request: folded, with and without the prefix of unverified
-- names.
create function platform.involved_in(asked platform.approval_requests) returns text[]
language sql stable as $$
    select coalesce(array_agg(form), '{}')
    from (values (asked.launched_by), (asked.requested_by)) as given (name)
    cross join lateral (values
        (platform.folded(name)), (platform.folded(substr(name, length('unverified: ') + 1)))
    ) as folded (form)
    where name is not null and form <> '' and (form = platform.folded(name) or starts_with(name, 'unverified: '))
$$;

-- The reason why the policy forbids an actor a decision; null if it allows the decision.
create function platform.why_refused(
    asked platform.approval_requests, verb text, actor jsonb, override boolean
) returns jsonb
language plpgsql stable as $$
declare
    policy jsonb := asked.policy;
    name text := actor ->> 'name';
    person text := platform.folded(name);
    involved text[] := platform.involved_in(asked);
    passed boolean := coalesce(asked.evidence -> 'verdict' -> 'passed' = 'true'::jsonb, false);
    votes integer;
begin
    if not (verb = 'withdraw' and person in (platform.folded(asked.launched_by), platform.folded(asked.requested_by)))
    then
        if not (actor ->> 'may_approve')::boolean then
            return platform.refused('no_scope', name);
        end if;
        if policy -> 'approvers' <> '"anyone"' and not person = any (platform.names(policy -> 'approvers')) then
            return platform.refused('not_an_approver', name);
        end if;
    end if;
    if verb <> 'approve' then
        return case when override then platform.refused('override_without_approval', name) end;
    end if;
    if not (actor ->> 'authenticated')::boolean
        and ((policy ->> 'four_eyes')::boolean or (policy ->> 'approvals')::integer > 1)
    then
        return platform.refused('people_unknown', name);
    end if;
    if (policy ->> 'four_eyes')::boolean then
        if platform.folded(coalesce(asked.launched_by, '')) in ('', 'user', 'unknown') then
            return platform.refused('unknown_launcher', name);
        end if;
        if person = any (involved) then
            return platform.refused('involved', name);
        end if;
    end if;
    if passed and override then
        return platform.refused('nothing_to_override', name);
    end if;
    if not passed and not override then
        return platform.refused('gate_failed', name);
    end if;
    if not passed and not person = any (platform.names(policy -> 'may_override')) then
        return platform.refused('may_not_override', name);
    end if;
    select count(*) into votes from platform.approval_events where request_id = asked.id and kind = 'approve';
    if exists (
        select from platform.approval_events
        where request_id = asked.id and kind = 'approve' and platform.folded(approval_events.actor) = person
    ) then
        return platform.refused('voted', name, jsonb_build_object('votes', votes));
    end if;
    return null;
end
$$;

create function platform.decide(
    number bigint, verb text, secret text, claimed text, reason text, override boolean, delivery text
) returns jsonb
language plpgsql security definer as $$
declare
    asked platform.approval_requests;
    actor jsonb;
    refusal jsonb;
    known platform.approval_events;
    becomes text;
begin
    perform platform.begin_step();
    select * into asked from platform.approval_requests where id = number;
    if not found then
        return platform.refused('no_request');
    end if;
    if verb is null or verb not in ('approve', 'reject', 'withdraw') then
        return platform.refused('no_verb');
    end if;
    if platform.why_not_text(reason) is not null then
        return platform.refused(platform.why_not_text(reason));
    end if;
    actor := platform.actor_of(secret, claimed);
    if actor ? 'why' then
        return platform.refused(actor ->> 'why', actor ->> 'name');
    end if;
    select * into known from platform.approval_events event
    where event.request_id = number and event.delivery = decide.delivery;
    if found then
        if (known.kind, known.actor, known.reason) is not distinct from (verb, actor ->> 'name', reason) then
            return jsonb_build_object('outcome', 'delivered');
        end if;
        return platform.refused('other_delivery', actor ->> 'name', jsonb_build_object('event', known.sequence));
    end if;
    if platform.state_of(number) = 'PENDING' and clock_timestamp() >= asked.expires_at then
        perform platform.add_event(number, 'EXPIRED', 'expire', 'platform', false);
    end if;
    if platform.state_of(number) <> 'PENDING' then
        return jsonb_build_object('outcome', 'closed');
    end if;
    refusal := platform.why_refused(asked, verb, actor, coalesce(override, false));
    if refusal is not null then
        return refusal;
    end if;
    becomes := case verb
        when 'reject' then 'REJECTED'
        when 'withdraw' then 'WITHDRAWN'
        else case
            when (
                select count(*) from platform.approval_events where request_id = number and kind = 'approve'
            ) + 1 >= (asked.policy ->> 'approvals')::integer then 'APPROVED'
            else 'PENDING'
        end
    end;
    begin
        return jsonb_build_object('outcome', 'recorded', 'event', platform.add_event(
            number, becomes, verb, actor ->> 'name', (actor ->> 'authenticated')::boolean, reason,
            coalesce(override, false), delivery, actor -> 'details'
        ));
    exception when sqlstate 'PA002' then
        -- It expired between the two looks at the clock.
        perform platform.add_event(number, 'EXPIRED', 'expire', 'platform', false);
        return jsonb_build_object('outcome', 'closed');
    end;
end
$$;

create function platform.roll_back(named text, secret text, claimed text, reason text, delivery text) returns jsonb
language plpgsql security definer as $$
declare
    actor jsonb;
    champions record;
    number bigint;
begin
    perform platform.begin_step();
    if platform.why_not_text(reason) is not null then
        return platform.refused(platform.why_not_text(reason));
    end if;
    actor := platform.actor_of(secret, claimed);
    if actor ? 'why' then
        return platform.refused(actor ->> 'why', actor ->> 'name');
    end if;
    if not (actor ->> 'may_approve')::boolean then
        return platform.refused('no_scope', actor ->> 'name');
    end if;
    select event.sequence into number from platform.approval_events event
    join platform.approval_requests asked on asked.id = event.request_id
    where asked.model = named and event.kind = 'roll_back' and event.delivery = roll_back.delivery;
    if found then
        return jsonb_build_object('outcome', 'delivered', 'event', number);
    end if;
    select
        count(*) as number, (array_agg(version))[1] as newest, (array_agg(request))[1] as now,
        (array_agg(jsonb_build_object('version', version, 'digest', digest, 'request', request)))[2] as before
    into champions from platform.champions(named);
    if champions.number < 2 then
        return platform.refused('no_previous', actor ->> 'name', jsonb_build_object('version', champions.newest));
    end if;
    return jsonb_build_object('outcome', 'recorded', 'event', platform.add_event(
        champions.now, 'ROLLED_BACK', 'roll_back', actor ->> 'name', (actor ->> 'authenticated')::boolean, reason,
        false, delivery, (actor -> 'details') || champions.before
    ));
end
$$;
