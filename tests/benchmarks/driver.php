<?php
// Runs the PHP SDK with phpredis as a job says; the jobs and the answers are those of driver.py.
// driver.php AUTOLOAD [--once] JOB
declare(strict_types=1);

require $argv[1];

use LaunchDarkly\Integrations\PHPRedis;
use LaunchDarkly\LDClient;
use LaunchDarkly\LDContext;

$job = json_decode(file_get_contents($argv[$argc - 1]), true);
$context = LDContext::fromJson(json_encode($job['context']));

$open = function () use ($job): LDClient {
    $redis = new Redis();
    if ($job['path'] !== '') {
        $redis->connect($job['path']);
    } else {
        $redis->connect('127.0.0.1', $job['port']);
    }
    $requester = PHPRedis::featureRequester($redis, ['prefix' => $job['prefix']]);
    return new LDClient('sdk-key', ['feature_requester' => $requester, 'send_events' => false]);
};
$task = function (LDClient $client) use ($job, $context): mixed {
    switch ($job['task']) {
        case 'one':
            return $client->variation($job['keys'][0], $context, null);
        case 'many':
            $answers = [];
            foreach ($job['keys'] as $key) {
                $answers[$key] = $client->variation($key, $context, null);
            }
            return $answers;
        default:
            return $client->allFlagsState($context)->toValuesMap();
    }
};
if ($job['fresh']) {
    $do = fn () => $task($open());
} else {
    $client = $open();
    $do = fn () => $task($client);
}

if ($argv[2] === '--once') {
    echo json_encode($do()), "\n";
    exit;
}
try {
    $do();
    echo json_encode(['ready' => true]), "\n";
} catch (Throwable $error) {
    echo json_encode(['unavailable' => $error->getMessage()]), "\n";
    exit;
}
function cpu(): float
{
    $usage = getrusage();
    return $usage['ru_utime.tv_sec'] + $usage['ru_stime.tv_sec']
        + ($usage['ru_utime.tv_usec'] + $usage['ru_stime.tv_usec']) / 1e6;
}
while (($line = fgets(STDIN)) !== false) {
    $times = (int) $line;
    if ($times === 0) {
        echo json_encode(['answer' => $do()]), "\n";
        continue;
    }
    $cpu = cpu();
    $start = hrtime(true);
    for ($time = 0; $time < $times; $time++) {
        $do();
    }
    $wall = (hrtime(true) - $start) / 1e9;
    echo json_encode(['wall' => $wall, 'cpu' => cpu() - $cpu]), "\n";
}
