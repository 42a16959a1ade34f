#!/usr/bin/env python3
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
"""Usage: check.py DIRECTORY

Compare what odpctl printed (SUB.json, SUB.first.json, SUB.txt) with what two
programs said of themselves (first, second).
"""
import json
import os
import sys

where = sys.argv[1]
failed = 0


def text(name):
    with open(os.path.join(where, name)) as f:
        return f.read()


def load(name):
    return json.loads(text(name))


def expect(what, seen, good):
    global failed
    if not good:
        failed = 1
        print(f'FAILED: {what}: {seen}')


def equal(what, row, **fields):
    for key, value in fields.items():
        expect(f'{what}: {key} is not {value}', row.get(key), row.get(key) == value)


def at_least(what, row, **fields):
    for key, value in fields.items():
        expect(f'{what}: {key} is below {value}', row.get(key), row.get(key, -1) >= value)


def one(rows, what, **fields):
    found = [r for r in rows if all(r.get(k) == v for k, v in fields.items())]
    expect(f'{what}: not listed once', found, len(found) == 1)
    return found[0] if found else {}


COMM = 'odpctl_holder'
caps = {c['name']: c for c in load('caps.json')}
have_pool = (caps['userfaultfd']['present'] and caps['userfaultfd-events']['present'] and
             os.environ.get('UODP_NO_UFFD', '') != '1' and
             os.environ.get('UODP_BACKING', '') != 'va')
have_pin = caps['pinned-buffers']['present']


def check_qps(rows, said):
    pid = said['pid']
    a, b, ud = (one(rows, f'QP {n}', pid=pid, lqpn=said[n]) for n in ('a', 'b', 'ud'))
    common = {'ifname': 'uodp0', 'port': 1, 'comm': COMM, 'pdn': a.get('pdn')}
    equal('QP a', a, type='RC', state='RTS', rqpn=said['b'], tx_msgs=3, rq_posted=0, rq_max=8,
          **common)
    equal('QP a', a, **{'tx_bytes': 2 * 65536 + 100, 'rx_msgs': 0, 'rq-psn': 7, 'sq-psn': 7})
    equal('QP b', b, type='RC', state='RTS', rqpn=said['a'], tx_msgs=0, rq_posted=2, **common)
    at_least('QP b', b, rx_msgs=1, rx_bytes=100)
    equal('QP ud', ud, type='UD', state='INIT', srqn=0, rqpn=None, rq_posted=None, **common)
    expect('receive CQ', b, b.get('rcqn') == a.get('rcqn') == ud.get('rcqn'))


def check_cqs(rows, said):
    mine = sorted((r for r in rows if r['pid'] == said['pid']), key=lambda r: r['cqn'])
    expect('two CQs', mine, len(mine) == 2)
    at_least('send CQ', mine[0], cqe=100)
    equal('send CQ', mine[0], cqe_used=0, channel=False, armed='no', overflow=False, comm=COMM)
    at_least('receive CQ', mine[-1], cqe=50)
    equal('receive CQ', mine[-1], cqe_used=1, channel=True, armed='solicited', comm=COMM)


def check_mrs(rows, said):
    mr = {n: one(rows, f'MR {n}', pid=said['pid'], lkey=said[n]['lkey'])
          for n in ('pinned', 'odp', 'pin', 'va', 'mixed')}
    for name, row in mr.items():
        addr, length = said[name]['addr'], said[name]['mrlen']
        equal(f'MR {name}', row, rkey=said[name]['lkey'], addr=addr, iova=addr, mrlen=length,
              pages=length // 4096, comm=COMM, pdn=mr['pinned'].get('pdn'),
              kind='pinned' if name in ('pinned', 'pin') else 'odp')
    equal('MR pinned', mr['pinned'], access=['local_write', 'remote_read'], pages_valid=16,
          page_faults=0, page_invalidations=0)
    equal('MR odp', mr['odp'],
          access=['local_write', 'remote_write', 'remote_read', 'remote_atomic'])
    at_least('MR odp', mr['odp'], page_faults=1, page_faults_handled=1, page_prefetch=4)
    expect('more faults handled than there were', mr['odp'],
           mr['odp']['page_faults_handled'] <= mr['odp']['page_faults'])
    if have_pool:
        equal('MR pinned', mr['pinned'], backing='pool')
        equal('MR odp', mr['odp'], backing='pool')
        at_least('MR odp', mr['odp'], page_faults=20, page_faults_handled=20, pages_valid=20,
                 page_invalidations=4, page_invalidations_handled=4)
    if have_pin:
        equal('MR pin', mr['pin'], backing='pin', pages_valid=4)
    equal('MR va', mr['va'], backing='va')
    equal('MR mixed', mr['mixed'], backing='mixed' if have_pool else 'va')


def check_process(rows, said):
    p = one(rows, 'process', pid=said['pid'])
    equal('process', p, comm=COMM, qps=3, cqs=2, srqs=1, mrs=5, devices=['uodp0'],
          pinned_bytes=(16 + 4) * 4096, odp_bytes=(64 + 4 + 4) * 4096)
    at_least('process', p, slot=0, uptime=0, lanes=1, pool_bytes=16 * 4096 if have_pool else 0)
    expect('uptime', p, p.get('uptime', 1e9) < 3600)


def check_text(name):
    """The table says what the JSON says: a line a row, the identifying cells in it."""
    head, *lines = text(name + '.txt').splitlines()
    rows = load(name + '.json')
    lines = [l for l in lines if not l.startswith(' ' * 12)]  # a broken cell goes on
    expect(f'{name}: number of lines', lines, len(lines) == len(rows))
    titles = head.split()
    for line, row in zip(lines, rows):
        cells = dict(zip(titles, line.split()))
        for title, key in (('PID', 'pid'), ('LQPN', 'lqpn'), ('RQPN', 'rqpn'), ('STATE', 'state'),
                           ('TX_BYTES', 'tx_bytes'), ('CQN', 'cqn'), ('MRLEN', 'mrlen'),
                           ('KIND', 'kind'), ('BACK', 'backing'), ('VALID', 'pages_valid'),
                           ('FAULTS', 'page_faults'), ('QPS', 'qps'), ('PINNED', 'pinned_bytes')):
            if title in cells:
                want = str(row.get(key, '-'))
                expect(f'{name}: {title} is not {want}', line, cells[title] == want)
        if 'LKEY' in cells:
            expect(f'{name}: LKEY', line, int(cells['LKEY'], 16) == row['lkey'])
            expect(f'{name}: ADDR', line, int(cells['ADDR'], 16) == row['addr'])


def check_overview(said):
    o = load('overview.json')
    equal('overview', o, dir=os.environ['UODP_DIR'], devices=['uodp0'], processes=2, qps=6,
          qps_rts=4, cqs=4, srqs=2, mrs=10, mrs_odp=6)
    at_least('overview', o, page_faults=2)
    out = text('overview.txt')
    expect('overview: processes', out, all(f' {s["pid"]} {COMM} ' in out for s in said))


def check_devices(said):
    d = one(load('devices.json'), 'device', ifname='uodp0')
    equal('device', d, port=1, state='ACTIVE', physical_state='LinkUp', link_layer='Ethernet',
          qps=6, processes=2)
    expect('device: pids', d, sorted(d.get('pids', [])) == sorted(s['pid'] for s in said))
    expect('device: gids', d, [g['gid'] for g in d.get('gids', [])][1:] == ['::ffff:127.0.0.1'] and
           d['gids'][0]['gid'].startswith('fe80::') and d['gids'][1]['type'] == 'RoCE v2')
    expect('device: GUID', d, len(d.get('node_guid', '')) == 19)


def check_stats():
    d = one(load('stats.json'), 'stats', ifname='uodp0')
    mrs = [m for m in load('mrs.json') if m['kind'] == 'odp']
    equal('stats', d, processes=2, mrs=10, mrs_odp=6)
    # What regions counted that are no more is counted too.
    at_least('stats', d, **{k: sum(m[k] for m in mrs) for k in (
        'pages_valid', 'page_faults', 'page_faults_handled', 'page_invalidations',
        'page_invalidations_handled', 'page_prefetch')})
    expect('stats: faults', d, d['page_faults'] >= 2)


def check_caps():
    missing = [c['name'] for c in caps.values() if not c['present']]
    expect('caps: exit status', missing, int(text('caps.status')) == (1 if missing else 0))
    expect('caps: names', list(caps),
           {'userfaultfd', 'io_uring', 'pidfd_getfd', 'ptrace'} <= set(caps))
    for cap in caps.values():
        expect(f'caps: {cap["name"]} says too little', cap, cap['detail'] and cap['cost'])
        expect(f'caps: {cap["name"]} is not in the table', '',
               any(l.split()[:2] == [cap['name'], 'yes' if cap['present'] else 'no']
                   for l in text('caps.txt').splitlines()))


both = [load('first'), load('second')]
for program in both:
    check_qps(load('qps.json'), program)
    check_cqs(load('cqs.json'), program)
    check_mrs(load('mrs.json'), program)
    check_process(load('processes.json'), program)
for sub, count in (('processes', 1), ('qps', 3), ('cqs', 2), ('mrs', 5), ('devices', 1), ('stats', 1)):
    first = load(sub + '.first.json')
    expect(f'{sub} --pid: rows', first, len(first) == count)
    expect(f'{sub} --pid: others', first,
           all(r.get('pid', both[0]['pid']) == both[0]['pid'] for r in first))
    check_text(sub)
check_overview(both)
check_devices(both)
check_stats()
check_caps()
for sub in ('overview', 'processes', 'qps', 'cqs', 'mrs', 'devices', 'stats', 'caps'):
    wide = [l for l in text(sub + '.txt').splitlines() if len(l) > 120]
    expect(f'{sub}: wider than 120 columns', wide, not wide)
sys.exit(failed)
